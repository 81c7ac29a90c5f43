"""Train LeNet on KMNIST, and save the trained model and a plot of its training."""

import modules.interrupt  # noqa: F401 - Ctrl-C is welcome during the other imports, too

import argparse
import sys
import time
from pathlib import Path

import torch
from sklearn.metrics import classification_report
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torch.utils.data import random_split
from tqdm import tqdm

from modules import cli
from modules.augment import warp_batch
from modules.checkpoint import load_training
from modules.checkpoint import restore_training
from modules.checkpoint import save_checkpoint
from modules.datasets import as_is
from modules.datasets import load_dataset
from modules.files import check_writable
from modules.lenet import LeNet
from modules.plots import save_plot


def train_epoch(model, loader, loss_fn, optimizer, scheduler=None, amp=False):
    """Train on every batch once; return the mean loss per image and the accuracy in [0, 1].

    Raises FloatingPointError, naming the batch, where a loss is not finite.
    """
    # training mode: some kinds of layers, though none of LeNet's, behave differently in it
    model.train()
    losses, num_correct = [], 0

    # a progress bar over the batches, shown where there is a terminal to show it
    for images, labels in tqdm(loader, desc="training", leave=False, disable=None):
        # forward pass: make predictions, in bf16 if asked to, and compute the loss in fp32
        with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
            log_probs = model(images)
        loss = loss_fn(log_probs.float(), labels)

        # zero the gradients, backpropagate, and update the weights
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler:
            scheduler.step()

        # the loss is its batch's mean, and the last batch may be smaller than the others; detached,
        # the number lets go of the computation that gradients would need
        losses.append(loss.detach() * len(images))
        num_correct += (log_probs.argmax(dim=1) == labels).sum()

    return mean_loss(losses, loader), num_correct.item() / len(loader.dataset)


def evaluate(model, loader, loss_fn, amp=False):
    """Return the mean loss per image, the accuracy in [0, 1], and the predicted labels, a list.

    Raises FloatingPointError, naming the batch, where a loss is not finite.
    """
    model.eval()
    losses, num_correct, predictions = [], 0, []

    # no gradients: nothing is learned here
    with torch.inference_mode():
        for images, labels in tqdm(loader, desc="evaluating", leave=False, disable=None):
            with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
                log_probs = model(images)
            predicted = log_probs.argmax(dim=1)

            losses.append(loss_fn(log_probs.float(), labels) * len(images))
            num_correct += (predicted == labels).sum()
            predictions.append(predicted)

    accuracy = num_correct.item() / len(loader.dataset)
    return mean_loss(losses, loader), accuracy, torch.cat(predictions).tolist()


def mean_loss(losses, loader):
    """Return the mean loss per image, given the sum of each of the loader's batches."""
    losses = torch.stack(losses)
    broken = (~losses.isfinite()).nonzero()
    if len(broken):
        raise FloatingPointError(
            f"batch {broken[0].item() + 1}: the loss is {losses[broken[0]].item()}"
        )
    return losses.sum().item() / len(loader.dataset)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, default="output/model.pth", help="where the model goes")
    add("-p", "--plot", type=cli.png_path, default="output/plot.png", help="where the curves go")
    add(
        "--dataset",
        choices=["auto", "kmnist", "printed"],
        default="auto",
        help="KMNIST, printed Hiragana, or the latter where KMNIST cannot be had",
    )
    add("-e", "--epochs", type=cli.positive_int, default=10, help="passes over the images")
    add("-b", "--batch-size", type=cli.positive_int, default=64, help="images in a step")
    add(
        "-l",
        "--lr",
        type=cli.positive_float,
        default=argparse.SUPPRESS,
        help="learning rate of Adam, or its peak with --augment (default: 0.001, or 0.007)",
    )
    add("--val-split", type=cli.fraction, default=0.25, help="share of images to validate on")
    add("--augment", action="store_true", help="warp the images anew each time, for more accuracy")
    add("--amp", action="store_true", help="compute in bf16 where that does no harm, for speed")
    add("--resume", action="store_true", help="go on from --model, with its settings")
    cli.add_shared_arguments(parser)
    args, checkpoint = parser.parse_args(), None
    if args.resume:
        checkpoint = load_training(args.model)
        settings = checkpoint["settings"] | {"dataset": checkpoint["dataset"]}
        args = cli.parse_again(parser, settings, source=args.model)
    vars(args).setdefault("lr", 7e-3 if args.augment else 1e-3)
    return args, checkpoint


def main():
    args, checkpoint = parse_arguments()
    # find out now, not after the training, what cannot work
    cli.check_device(args.device)
    if args.amp:
        cli.warn_of_slow_bf16(args.device)
    check_writable(args.model, args.plot)

    # torch draws the split, the first weights and the order of images from this one generator
    generator = torch.manual_seed(args.seed)

    print("[INFO] loading the dataset...")
    train_val_data, test_data, warning = load_dataset(args.dataset, args.data)
    classes = test_data.classes
    if warning:
        print(warning, file=sys.stderr)

    # the images live where the network computes
    train_val_data.to(args.device)
    test_data.to(args.device)

    # set a part of the training images aside to validate on
    num_val = round(len(train_val_data) * args.val_split)
    num_train = len(train_val_data) - num_val
    if not num_val or not num_train:
        sys.exit(
            f"[ERROR] {num_train} images to train on and {num_val} to validate on: "
            "each needs one at least, choose another --val-split"
        )
    train_data, val_data = random_split(train_val_data, [num_train, num_val], generator)
    print(
        f"[INFO] {test_data.title}: {num_train} images to train on, {num_val} to validate on, "
        f"{len(test_data)} to test on"
    )

    # the loaders hand the images out in batches, which the dataset makes, so as they are; those to
    # train on come in a new order every epoch, and warped at random if asked to
    train_loader = DataLoader(
        train_data,
        shuffle=True,
        batch_size=args.batch_size,
        collate_fn=warp_batch if args.augment else as_is,
    )
    val_loader = DataLoader(val_data, batch_size=args.batch_size, collate_fn=as_is)
    test_loader = DataLoader(test_data, batch_size=args.batch_size, collate_fn=as_is)

    # the network, the rule that updates its weights, and the loss to make small: the negative
    # log-likelihood, minus the log-probability that the network gave to the right class
    model = LeNet(numChannels=1, classes=len(classes))
    # the order of numbers in memory that convolutions are fastest with
    model = model.to(args.device, memory_format=torch.channels_last)
    optimizer = Adam(model.parameters(), lr=args.lr, fused=True)
    loss_fn = NLLLoss()

    # warped images take larger steps, which grow to the learning rate and then shrink to nothing
    scheduler = None
    if args.augment:
        num_steps = args.epochs * len(train_loader)
        scheduler = OneCycleLR(optimizer, args.lr, total_steps=num_steps, pct_start=0.15)

    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    plot_title = f"LeNet on {test_data.title}"
    num_done = 0
    if checkpoint:
        restore_training(args.model, checkpoint, train_val_data, model, optimizer)
        history, num_done = checkpoint["history"], checkpoint["epochs"]
        if scheduler:
            scheduler.last_epoch = num_done * len(train_loader)
        print(f"[INFO] {num_done} epochs are done already")
        save_plot(args.plot, history, plot_title)

    print(f"[INFO] training LeNet on {args.device}...")
    cli.advise_if_stopped(args.model, num_done, args.epochs)
    start = time.perf_counter()
    for epoch in range(num_done + 1, args.epochs + 1):
        try:
            train_loss, train_acc = train_epoch(
                model, train_loader, loss_fn, optimizer, scheduler, args.amp
            )
            val_loss, val_acc, _ = evaluate(model, val_loader, loss_fn, args.amp)
        except FloatingPointError as error:
            sys.exit(f"[ERROR] epoch {epoch}, {error}: train with a smaller --lr than {args.lr}")

        history["train_loss"].append(train_loss)
        history["train_acc"].append(train_acc)
        history["val_loss"].append(val_loss)
        history["val_acc"].append(val_acc)
        print(f"[INFO] epoch {epoch}/{args.epochs}")
        print(
            f"[INFO] train loss {train_loss:.4f}, train accuracy {train_acc:.4f}, "
            f"validation loss {val_loss:.4f}, validation accuracy {val_acc:.4f}"
        )

        # save what has been learned so far before anything else can go wrong
        save_checkpoint(
            args.model,
            model,
            optimizer,
            history,
            classes=classes,
            dataset=test_data.name,
            checksum=train_val_data.checksum(),
            settings={name: getattr(args, name) for name in cli.SETTINGS},
        )
        cli.advise_if_stopped(args.model, epoch, args.epochs)
        save_plot(args.plot, history, plot_title)
    print(f"[INFO] trained in {time.perf_counter() - start:.1f} s")
    print(f"[INFO] saved {args.model} and {args.plot}")

    print("[INFO] evaluating on the test images...")
    _, _, predictions = evaluate(model, test_loader, loss_fn, args.amp)
    print(
        classification_report(
            test_data.targets.tolist(),
            predictions,
            labels=range(len(classes)),
            target_names=classes,
            digits=4,
            zero_division=0,
        )
    )
    if warning:
        print(warning, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
