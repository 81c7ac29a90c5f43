"""Train LeNet on KMNIST; save the trained network and a plot of its loss and accuracy."""

from modules import cli
from modules.augment import get_recipe, warp
from modules.checkpoint import keep_settings, resume, save_checkpoint
from modules.datasets import check_split, load_dataset
from modules.lenet import LeNet
from modules.messages import UserError, progress_bar
from modules.plots import save_plot

import argparse
import math
import time

import torch
from sklearn.metrics import classification_report
from sklearn.utils.multiclass import unique_labels
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.utils.data import DataLoader, random_split


def main():
    args = parse_arguments()
    # the random seed of the split, the initial weights, the order of the images and the warps
    torch.manual_seed(args.seed)

    # 1: load the data, keep a fraction of the training images for validation, and make batches
    dataset = load_dataset(args.dataset, args.data)
    train_data, val_data = random_split(dataset.train, [1 - args.val_split, args.val_split])
    # stop if a part is empty, and warn if a class is in the validation set alone
    check_split(train_data, val_data, dataset.classes)
    train_loader = DataLoader(train_data, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_data, batch_size=args.batch_size)
    test_loader = DataLoader(dataset.test, batch_size=args.batch_size)
    sizes = f"{len(train_data)} training, {len(val_data)} validation, {len(dataset.test)} test"
    print(f"[INFO] {dataset.title}: {sizes} images")

    # 2: the network, the loss function and the optimizer
    model = LeNet(numChannels=1, classes=len(dataset.classes)).to(args.device)
    # a memory format in which convolutions are often faster, but not on Apple's GPUs
    if args.device.type != "mps":
        model.to(memory_format=torch.channels_last)
    if args.augment:
        loss_fn, optimizer, scheduler = get_recipe(model, args, len(train_loader))
    else:
        loss_fn = NLLLoss()
        optimizer = Adam(model.parameters(), lr=args.lr, fused=True)
        scheduler = None

    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    if args.resume:
        # go on after the last epoch: load the network, the optimizer and the scheduler, too
        history = resume(args, dataset, model, optimizer, scheduler)
    first_epoch = len(history["train_loss"]) + 1

    print(f"[INFO] training LeNet on {args.device} (Ctrl-C stops, --resume continues)...")
    start_time = time.perf_counter()
    for epoch in range(first_epoch, args.epochs + 1):
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
        save_checkpoint(args, dataset, history, model, optimizer, scheduler)
        print(f"[INFO] epoch {epoch}/{args.epochs}")
        print(f"[INFO] train loss {train_loss:.4f}, train accuracy {train_acc:.4f}")
        print(f"[INFO] validation loss {val_loss:.4f}, validation accuracy {val_acc:.4f}")
        save_plot(args.plot, history, f"LeNet on {dataset.title}")
    seconds = time.perf_counter() - start_time
    print(f"[INFO] trained in {seconds:.1f} s: see {args.model}, {args.plot}")

    report(model, test_loader, dataset, history, args)


def train_epoch(model, loader, loss_fn, optimizer, scheduler, args):
    """Train for one epoch; return the mean loss per image and the accuracy in [0, 1]."""
    # training mode: matters for layers such as dropout (LeNet has none)
    model.train()
    total_loss, num_correct = 0, 0

    for images, labels in progress_bar(loader, "training"):
        images, labels = images.to(args.device), labels.to(args.device)
        if args.augment:
            images = warp(images)

        # 3: make predictions and compute the loss, mostly in bfloat16 with --amp
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.amp):
            log_probs = model(images)
            loss = loss_fn(log_probs, labels)

        # 4: zero the gradients and backpropagate
        optimizer.zero_grad()
        loss.backward()

        # 5: update the parameters and, with --augment, the learning rate
        optimizer.step()
        if scheduler:
            scheduler.step()

        # the loss is a mean over the batch: times its size, because the last batch may be smaller
        total_loss += loss.detach() * len(images)
        num_correct += (log_probs.argmax(dim=1) == labels).sum()

    # item() makes the CPU wait for the GPU: call it once per epoch, not once per batch
    num_images = len(loader.dataset)
    return total_loss.item() / num_images, num_correct.item() / num_images


def evaluate(model, loader, device):
    """Return the mean loss per image, the accuracy in [0, 1] and the predicted labels, (N,)."""
    model.eval()
    loss_fn = NLLLoss()
    total_loss, num_correct, predictions = 0, 0, []

    # 6: evaluate, without gradients, because nothing is learned here
    with torch.inference_mode():
        for images, labels in progress_bar(loader, "evaluating"):
            images, labels = images.to(device), labels.to(device)
            log_probs = model(images)
            predicted = log_probs.argmax(dim=1)
            total_loss += loss_fn(log_probs, labels) * len(images)
            num_correct += (predicted == labels).sum()
            predictions.append(predicted)

    num_images = len(loader.dataset)
    predictions = torch.cat(predictions).cpu()
    return total_loss.item() / num_images, num_correct.item() / num_images, predictions


def report(model, loader, dataset, history, args):
    # evaluate the network on images that it has never seen
    print(f"[INFO] evaluating on the test images, {dataset.title}...")
    _, _, predictions = evaluate(model, loader, args.device)
    _, labels = dataset.test.tensors

    # print precision, recall and F1, a row for each class that occurs
    occurring = unique_labels(labels, predictions)
    names = [dataset.classes[label] for label in occurring]
    text = classification_report(labels, predictions, target_names=names, digits=4, zero_division=0)
    print(text)

    # plot again, with the confusion matrix
    title = f"LeNet on {dataset.title}"
    save_plot(args.plot, history, title, results=(labels, predictions, dataset.classes))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.model_path, default="output/model.pth",
                        help="checkpoint file (default: %(default)s)")
    parser.add_argument("-p", "--plot", type=cli.png_path, default="output/plot.png",
                        help="plot of loss and accuracy (default: %(default)s)")
    parser.add_argument("-d", "--data", type=cli.path,
                        help="dataset folder (default: data, filled by a download if empty)")
    parser.add_argument("--dataset", default="auto",
                        choices=["auto", "kmnist", "pictures", "synthetic"],
                        help="pictures: DIR/train/CLASS/*, DIR/test/CLASS/*; auto: what --data "
                        "holds, or synthetic Hiragana if KMNIST cannot be downloaded "
                        "(default: %(default)s)")
    parser.add_argument("-e", "--epochs", type=cli.positive_int, default=10,
                        help="total number of epochs, including those before --resume "
                        "(default: %(default)s)")
    parser.add_argument("-b", "--batch-size", type=cli.positive_int, default=64,
                        help="batch size (default: %(default)s)")
    parser.add_argument("-l", "--lr", type=cli.positive_float, default=1e-3,
                        help="learning rate (default: %(default)s)")
    parser.add_argument("--val-split", type=cli.fraction, default=0.25,
                        help="fraction of the training images kept for validation "
                        "(default: %(default)s)")
    parser.add_argument("--augment", action="store_true",
                        help="random warps, weight decay, label smoothing and a one-cycle "
                        "learning-rate schedule")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision, in bfloat16")
    parser.add_argument("--resume", action="store_true", help="resume training from --model")
    parser.add_argument("--device", type=cli.device, default="auto", help=cli.DEVICE_HELP)
    parser.add_argument("--seed", type=cli.seed, default=42,
                        help="random seed (default: %(default)s)")
    # fmt: on
    args = parser.parse_args()
    if args.resume:
        # the settings are those of the checkpoint
        args = keep_settings(parser, args)
    elif args.dataset == "synthetic" and args.data:
        parser.error("--dataset synthetic is drawn, not read: leave --data or --dataset out")
    return args


if __name__ == "__main__":
    # call main(), and show errors in one line
    cli.run(main)
