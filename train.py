"""Train LeNet on KMNIST; save the trained network and a plot of its loss and accuracy."""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from sklearn.metrics import classification_report
from torch.nn import CrossEntropyLoss
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.optim import AdamW
from torch.optim.lr_scheduler import ConstantLR
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torch.utils.data import default_convert
from torch.utils.data import random_split
from tqdm import tqdm

from modules import cli
from modules.augment import warp_batch
from modules.checkpoint import load_checkpoint
from modules.checkpoint import save_checkpoint
from modules.datasets import load_dataset
from modules.lenet import LeNet
from modules.plots import save_plot

# the settings that are saved in the checkpoint, and that --resume keeps
SETTINGS = ["epochs", "batch_size", "lr", "val_split", "augment", "amp", "seed"]


def train_epoch(model, loader, loss_fn, optimizer, scheduler, amp=False):
    """Train for one epoch; return the mean loss per image and the accuracy in [0, 1]."""
    # training mode: matters for layers such as dropout (LeNet has none)
    model.train()
    total_loss, num_correct = 0, 0

    # loop over the batches, with a progress bar in a terminal
    for images, labels in tqdm(loader, desc="training", leave=False, disable=None):
        # forward pass: make predictions and compute the loss, mostly in bfloat16 with --amp
        with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
            log_probs = model(images)
            loss = loss_fn(log_probs, labels)

        # zero the gradients, backpropagate, and update the parameters
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

        # the loss is the mean over a batch, and the last batch may be smaller; detach(): do not
        # keep the computation graph alive
        total_loss += loss.detach() * len(images)
        num_correct += (log_probs.argmax(dim=1) == labels).sum()

    # item() makes the CPU wait for the GPU: call it once per epoch, not once per batch
    num_images = len(loader.dataset)
    return total_loss.item() / num_images, num_correct.item() / num_images


def evaluate(model, loader, loss_fn):
    """Return the mean loss per image, the accuracy in [0, 1], and the predicted labels, a list."""
    model.eval()
    total_loss, num_correct, predictions = 0, 0, []

    # turn off gradient tracking: nothing is learned here
    with torch.inference_mode():
        for images, labels in tqdm(loader, desc="evaluating", leave=False, disable=None):
            log_probs = model(images)
            predicted = log_probs.argmax(dim=1)
            total_loss += loss_fn(log_probs, labels) * len(images)
            num_correct += (predicted == labels).sum()
            predictions.append(predicted)

    num_images, predictions = len(loader.dataset), torch.cat(predictions).tolist()
    return total_loss.item() / num_images, num_correct.item() / num_images, predictions


def parse_arguments():
    """Return the arguments and the checkpoint to resume from, None without --resume."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, default="output/model.pth", help="checkpoint file")
    add(
        "-p",
        "--plot",
        type=cli.png_path,
        default="output/plot.png",
        help="plot of loss and accuracy",
    )
    text = "dataset folder, where KMNIST is downloaded to"
    add("-d", "--data", type=cli.folder, default="data", help=text)
    text = "auto is KMNIST, or printed Hiragana if KMNIST cannot be downloaded"
    add("--dataset", choices=["auto", "kmnist", "printed"], default="auto", help=text)
    add("-e", "--epochs", type=cli.positive_int, default=10, help="passes over the training images")
    missing, text = argparse.SUPPRESS, "batch size (default: 64, or 32 with --augment)"
    add("-b", "--batch-size", type=cli.positive_int, default=missing, help=text)
    text = "learning rate, or its peak with --augment (default: 0.001, or 0.007 with --augment)"
    add("-l", "--lr", type=cli.positive_float, default=missing, help=text)
    text = "fraction of the training images kept for validation"
    add("--val-split", type=cli.fraction, default=0.25, help=text)
    text = "data augmentation, weight decay, label smoothing, learning-rate schedule"
    add("--augment", action="store_true", help=text)
    add("--amp", action="store_true", help="automatic mixed precision, in bfloat16")
    add("--resume", action="store_true", help="resume training from --model, with its settings")
    cli.add_shared_arguments(parser)

    args, checkpoint = parser.parse_args(), None
    if args.resume:
        checkpoint = load_checkpoint(args.model)
        args = cli.parse_resumed(parser, args.model, checkpoint)
    vars(args).setdefault("batch_size", 32 if args.augment else 64)
    vars(args).setdefault("lr", 7e-3 if args.augment else 1e-3)
    cli.check_outputs(args.model, args.plot)
    return args, checkpoint


def main():
    args, checkpoint = parse_arguments()
    # denormals, numbers too small for full precision, slow a CPU down: treat them as 0
    torch.set_flush_denormal(True)

    # one random seed for the split, the initial weights, the order of the images and the warps
    generator = torch.manual_seed(args.seed)

    # load the data, and move it to the device
    print("[INFO] loading the dataset...")
    datasets = load_dataset(args.dataset, args.data)
    train_val_data, test_data = (data.to(args.device) for data in datasets)
    classes = test_data.classes

    # keep a fraction of the training images for validation
    if args.val_split * len(train_val_data) < 1:
        sys.exit("[ERROR] the validation set is empty: choose a larger --val-split")
    fractions = [1 - args.val_split, args.val_split]
    train_data, val_data = random_split(train_val_data, fractions, generator)
    print(f"[INFO] {test_data.title}: {len(train_data)} training, ", end="")
    print(f"{len(val_data)} validation, {len(test_data)} test images")

    # the dataset returns whole batches, so there is nothing to collate; --augment warps them
    collate = warp_batch if args.augment else default_convert
    train_loader = DataLoader(train_data, args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_data, args.batch_size, collate_fn=default_convert)
    test_loader = DataLoader(test_data, args.batch_size, collate_fn=default_convert)

    # the network, in the memory format that is usually fastest for convolutions; the optimizer, a
    # learning rate that stays constant, and the loss
    model = LeNet(numChannels=1, classes=len(classes))
    model.to(args.device, memory_format=torch.channels_last)
    optimizer = Adam(model.parameters(), lr=args.lr, fused=True)
    scheduler = ConstantLR(optimizer, factor=1)
    train_loss_fn = val_loss_fn = NLLLoss()

    # with --augment, reduce overfitting by decoupled weight decay (AdamW) and label smoothing; let
    # the learning rate warm up, and then decay to almost 0
    if args.augment:
        optimizer = AdamW(model.parameters(), lr=args.lr, weight_decay=0.1, fused=True)
        num_steps = args.epochs * len(train_loader)
        scheduler = OneCycleLR(
            optimizer, args.lr, total_steps=num_steps, pct_start=0.15, anneal_strategy="linear"
        )
        # for log-probabilities, the cross entropy is NLLLoss, but with label smoothing
        train_loss_fn = CrossEntropyLoss(label_smoothing=0.1)

    # start with random weights, or resume from the checkpoint
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    if checkpoint:
        history = checkpoint["history"]
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        torch.set_rng_state(checkpoint["random_state"])

    print(f"[INFO] training LeNet on {args.device}...")
    title, start = f"LeNet on {test_data.title}", time.perf_counter()
    for epoch in range(len(history["train_loss"]) + 1, args.epochs + 1):
        train_loss, train_acc = train_epoch(
            model, train_loader, train_loss_fn, optimizer, scheduler, args.amp
        )
        val_loss, val_acc, _ = evaluate(model, val_loader, val_loss_fn)
        if not math.isfinite(train_loss + val_loss):
            sys.exit(f"[ERROR] epoch {epoch}: the loss is nan or infinite: try a smaller --lr")

        history["train_loss"].append(train_loss)
        history["train_acc"].append(train_acc)
        history["val_loss"].append(val_loss)
        history["val_acc"].append(val_acc)
        print(f"[INFO] epoch {epoch}/{args.epochs}")
        print(f"[INFO] train loss {train_loss:.4f}, train accuracy {train_acc:.4f}, ", end="")
        print(f"validation loss {val_loss:.4f}, validation accuracy {val_acc:.4f}")

        # save what predict.py and --resume need, and plot the curves so far
        checkpoint = {
            "model": model.state_dict(),
            "num_channels": 1,
            "classes": classes,
            "dataset": test_data.name,
            "data": args.data,
            "epochs": epoch,
            "history": history,
            "settings": {name: getattr(args, name) for name in SETTINGS},
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random_state": torch.get_rng_state(),
        }
        save_checkpoint(args.model, checkpoint)
        save_plot(args.plot, history, title)
    # also if there was no epoch left to train
    save_plot(args.plot, history, title)
    print(f"[INFO] trained in {time.perf_counter() - start:.1f} s")
    print(f"[INFO] saved {args.model} and {args.plot}")

    # evaluate the network on images that it has never seen
    print(f"[INFO] evaluating on the test images, {test_data.title}...")
    _, _, predictions = evaluate(model, test_loader, val_loss_fn)
    labels, numbers = test_data.targets.tolist(), range(len(classes))
    print(
        classification_report(
            labels, predictions, labels=numbers, target_names=classes, digits=4, zero_division=0
        )
    )


if __name__ == "__main__":
    cli.run(main, on_interrupt="stopped: --resume continues from the last finished epoch")
