"""Train LeNet on KMNIST; save the trained network and a plot of its loss and accuracy."""

from modules import cli
from modules.augment import warp
from modules.checkpoint import load_checkpoint, load_weights, save_checkpoint
from modules.datasets import load_dataset, require_folder
from modules.errors import UserError
from modules.lenet import LeNet
from modules.plots import save_plot

import argparse
import math
from os.path import realpath
from pathlib import Path
from time import perf_counter

import torch
from sklearn.metrics import classification_report
from torch.nn import CrossEntropyLoss, NLLLoss
from torch.nn.functional import nll_loss
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR
from torch.utils.data import DataLoader, default_convert, random_split

# the flags that are saved in the checkpoint, and that --resume keeps
SETTINGS = ["epochs", "batch_size", "lr", "val_split", "augment", "amp", "seed"]


def train_epoch(model, loader, loss_fn, optimizer, scheduler, args):
    """Train for one epoch; return the mean loss per image and the accuracy in [0, 1]."""
    # training mode: matters for layers such as dropout (LeNet has none)
    model.train()
    total_loss, num_correct = 0, 0

    for images, labels in cli.progress_bar(loader, "training"):
        images, labels = images.to(args.device), labels.to(args.device)
        if args.augment:
            images = warp(images)

        # forward pass: make predictions and compute the loss, mostly in bfloat16 with --amp
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.amp):
            log_probs = model(images)
            loss = loss_fn(log_probs, labels)

        # zero the gradients, backpropagate, and update the parameters
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()

        # sum over images, because the last batch may be smaller
        total_loss += loss.detach() * len(images)
        num_correct += (log_probs.argmax(dim=1) == labels).sum()

    # item() makes the CPU wait for the GPU: call it once per epoch, not once per batch
    num_images = len(loader.dataset)
    return total_loss.item() / num_images, num_correct.item() / num_images


def evaluate(model, loader, device):
    """Return the mean loss per image, the accuracy in [0, 1], and the predicted labels, a list."""
    model.eval()
    total_loss, num_correct, all_predicted = 0, 0, []

    # turn off gradient tracking: nothing is learned here
    with torch.inference_mode():
        for images, labels in cli.progress_bar(loader, "evaluating"):
            images, labels = images.to(device), labels.to(device)
            log_probs = model(images)
            predicted = log_probs.argmax(dim=1)
            total_loss += nll_loss(log_probs, labels, reduction="sum")
            num_correct += (predicted == labels).sum()
            all_predicted.append(predicted)

    num_images = len(loader.dataset)
    predictions = torch.cat(all_predicted).tolist()
    return total_loss.item() / num_images, num_correct.item() / num_images, predictions


def configure_training(model, args, steps_per_epoch):
    """Return the loss function for training, the optimizer and the learning-rate scheduler."""
    if not args.augment:
        optimizer = Adam(model.parameters(), lr=args.lr, fused=True)
        return NLLLoss(), optimizer, ConstantLR(optimizer, factor=1)

    # weight decay and label smoothing reduce overfitting (CrossEntropyLoss applies LogSoftmax, too,
    # which leaves log-probabilities as they are); the learning rate warms up, then falls to about 0
    optimizer = AdamW(model.parameters(), lr=args.lr, weight_decay=0.1, fused=True)
    num_steps = args.epochs * steps_per_epoch
    scheduler = OneCycleLR(
        optimizer, 7 * args.lr, num_steps, pct_start=0.15, anneal_strategy="linear"
    )
    return CrossEntropyLoss(label_smoothing=0.05), optimizer, scheduler


def parse_arguments():
    """Return the arguments and, with --resume, the checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.file_path, default="output/model.pth",
                        help="checkpoint file")
    parser.add_argument("-p", "--plot", type=cli.png_path, default="output/plot.png",
                        help="plot of loss and accuracy")
    parser.add_argument("-d", "--data", type=cli.path, default="data",
                        help="dataset folder, filled by a download if empty")
    parser.add_argument("--dataset", default="auto",
                        choices=["auto", "kmnist", "pictures", "synthetic"],
                        help="pictures: DIR/train/CLASS/*, DIR/test/CLASS/*; auto: pictures if "
                        "--data holds them, else KMNIST, or synthetic Hiragana if KMNIST cannot "
                        "be downloaded")
    parser.add_argument("-e", "--epochs", type=cli.positive_int, default=10, help="epochs in all")
    parser.add_argument("-b", "--batch-size", type=cli.positive_int, default=64, help="batch size")
    parser.add_argument("-l", "--lr", type=cli.positive_float, default=1e-3, help="learning rate")
    parser.add_argument("--val-split", type=cli.fraction, default=0.25,
                        help="fraction of the training images kept for validation")
    parser.add_argument("--augment", action="store_true",
                        help="data augmentation, and a recipe that goes with it")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision, in bfloat16")
    parser.add_argument("--resume", action="store_true", help="resume training from --model")
    parser.add_argument("--device", type=cli.device, default="auto", help=cli.DEVICES)
    parser.add_argument("--seed", type=cli.seed, default=42, help="random seed")
    # fmt: on
    args = parser.parse_args()
    if realpath(args.plot) == realpath(args.model):
        parser.error("--plot is the same file as --model")
    if args.resume:
        return resume_arguments(parser, args.model, args.device)
    return args, None


def resume_arguments(parser, path, device):
    """Return the arguments, with the settings of the checkpoint, and the checkpoint.

    Raises UserError if the checkpoint does not allow resuming; a flag that contradicts it ends the
    script.
    """
    checkpoint = load_checkpoint(path)
    if "optimizer" not in checkpoint:
        raise UserError(f"{path} has no training state: start over without --resume")

    # parse the flags once more: those that were not given now keep the checkpoint's settings
    settings, dataset = checkpoint["settings"], checkpoint["dataset"]
    kept = argparse.Namespace(device=device, data=Path(checkpoint["data"]), **settings)
    args = parser.parse_args(namespace=kept)
    if args.dataset == "auto":
        args.dataset = dataset
    for name, value in {"dataset": dataset, **settings}.items():
        # the number of epochs may change, unless the learning-rate schedule depends on it
        if getattr(args, name) != value and (name != "epochs" or args.augment):
            flag = f"--{name.replace('_', '-')}"
            parser.error(f"--resume keeps {name} at {value}: leave {flag} or --resume out")
    require_folder(dataset, args.data)
    return args, checkpoint


def main():
    args, resumed = parse_arguments()
    # a random seed for the split, the initial weights, the order of the images and the warps
    generator = torch.manual_seed(args.seed)
    # faster on a CPU: treat denormals, numbers too small for full precision, as 0
    torch.set_flush_denormal(True)

    # load the data, and keep a fraction of the training images for validation
    train_val_data = load_dataset(args.dataset, args.data, train=True)
    test_data = load_dataset(train_val_data.name, args.data, train=False)
    classes, checksum = train_val_data.classes, train_val_data.checksum()
    if resumed and (resumed["checksum"], resumed["classes"]) != (checksum, classes):
        raise UserError(f"{args.data} does not hold the images that {args.model} was trained on")
    fractions = [1 - args.val_split, args.val_split]
    if min(fractions) * len(train_val_data) < 1:
        raise UserError("no image is left for training, or for validation: change --val-split")
    train_data, val_data = random_split(train_val_data, fractions, generator)
    sizes = f"{len(train_data)} training, {len(val_data)} validation, {len(test_data)} test images"
    print(f"[INFO] {train_val_data.title}: {sizes}")

    # the dataset returns whole batches, so there is nothing to collate
    options = {"batch_size": args.batch_size, "collate_fn": default_convert}
    train_loader = DataLoader(train_data, shuffle=True, **options)
    val_loader = DataLoader(val_data, **options)
    test_loader = DataLoader(test_data, **options)

    # the network, in the memory format that is often faster for convolutions (not on Apple's GPUs)
    model = LeNet(numChannels=1, classes=len(classes)).to(args.device)
    if args.device.type != "mps":
        model.to(memory_format=torch.channels_last)
    loss_fn, optimizer, scheduler = configure_training(model, args, len(train_loader))

    # start with random weights, or resume from the checkpoint
    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    epochs_done = 0
    if resumed:
        load_weights(model, resumed["model"], args.model)
        optimizer.load_state_dict(resumed["optimizer"])
        scheduler.load_state_dict(resumed["scheduler"])
        torch.set_rng_state(resumed["random_state"])
        history = resumed["history"]
        epochs_done = len(history["train_loss"])
        print(f"[INFO] resuming {args.model} after epoch {epochs_done}")

    epochs_left = range(epochs_done + 1, args.epochs + 1)
    if epochs_left:
        print(f"[INFO] training LeNet on {args.device}...")
    start = perf_counter()
    for epoch in epochs_left:
        train_loss, train_acc = train_epoch(
            model, train_loader, loss_fn, optimizer, scheduler, args
        )
        val_loss, val_acc, _ = evaluate(model, val_loader, args.device)
        if not math.isfinite(train_loss + val_loss):
            raise UserError(f"epoch {epoch}: the loss is nan or infinite: try a smaller --lr")

        history["train_loss"].append(train_loss)
        history["train_acc"].append(train_acc)
        history["val_loss"].append(val_loss)
        history["val_acc"].append(val_acc)

        # save what predict.py and --resume need
        checkpoint = {
            "model": model.state_dict(),
            "classes": classes,
            "dataset": train_val_data.name,
            "data": realpath(args.data),
            "checksum": checksum,
            "settings": {name: getattr(args, name) for name in SETTINGS},
            "history": history,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "random_state": torch.get_rng_state(),
        }
        save_checkpoint(args.model, checkpoint)

        # print at once that this epoch is saved, in case of Ctrl-C; then plot the curves so far
        train_text = f"train loss {train_loss:.4f}, train accuracy {train_acc:.4f}"
        val_text = f"validation loss {val_loss:.4f}, validation accuracy {val_acc:.4f}"
        print(f"[INFO] epoch {epoch}/{args.epochs}")
        print(f"[INFO] {train_text}, {val_text}")
        save_plot(args.plot, history, title=f"LeNet on {train_val_data.title}")
    seconds = perf_counter() - start
    if epochs_left:
        print(f"[INFO] trained in {seconds:.1f} s: see {args.model}, {args.plot}")
    else:
        print("[INFO] nothing to train: all epochs are done")

    # evaluate the network on images that it has never seen
    print(f"[INFO] evaluating on the test images, {test_data.title}...")
    _, _, predictions = evaluate(model, test_loader, args.device)
    truths = test_data.labels.tolist()
    # a row for each class that occurs, so that averages count no other
    occurring = sorted({*truths, *predictions})
    names = [classes[label] for label in occurring]
    report = classification_report(
        truths, predictions, labels=occurring, target_names=names, digits=4, zero_division=0
    )
    print(report)


if __name__ == "__main__":
    cli.run(
        main,
        stopped="stopped: if an epoch is printed above, --resume continues after it; "
        "if not, this run has saved nothing",
    )
