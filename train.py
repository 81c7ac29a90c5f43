"""Train LeNet on images of characters, in the steps of README.md; save it, and plot how it went."""

# keep this import first: it runs modules/__init__.py, which sets environment variables for PyTorch
from modules import cli, devices
from modules.augment import get_recipe, warp
from modules.checkpoint import resume, save_checkpoint
from modules.datasets import check_split, load_dataset
from modules.lenet import LeNet
from modules.messages import progress_bar
from modules.plots import describe_confusions, occurring_classes, save_plot

import time
from argparse import ArgumentParser

import torch
from sklearn.metrics import classification_report
from torch.nn import NLLLoss
from torch.optim import Adam
from torch.utils.data import DataLoader, random_split


def main():
    args = parse_arguments()
    # the random seed of the split, the initial weights, the order of the images and --augment
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)  # faster on a CPU: rounds what is almost 0 to 0

    # 1: load the data, keep a fraction of the training images for validation, and make batches
    sets = load_dataset(args.dataset, args.data)
    train_data, val_data = random_split(sets.train, [1 - args.val_split, args.val_split])
    train_loader = DataLoader(train_data, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_data, batch_size=args.batch_size)
    test_loader = DataLoader(sets.test, batch_size=args.batch_size)
    # print how many images there are; stop if there are too few
    check_split(train_data, val_data, sets)

    # 2: the network, the loss function for its log-probabilities, and the optimizer (fused: faster)
    model = LeNet(numChannels=1, classes=len(sets.classes))
    model = devices.move(model, args.device)  # in the memory format that is fastest there
    loss_fn = NLLLoss()
    optimizer = Adam(model.parameters(), lr=args.lr, fused=True)
    scheduler = None
    if args.augment:
        # another loss function and optimizer, and a scheduler, which changes the learning rate
        loss_fn, optimizer, scheduler = get_recipe(model, args, steps_per_epoch=len(train_loader))

    history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
    if args.resume:
        # load the state of an earlier run into network, optimizer and scheduler; get its history
        history = resume(args, sets, model, optimizer, scheduler)
    epochs_done = len(history["train_loss"])  # 0 in a new run

    print(f"[INFO] training LeNet on {args.device} (Ctrl-C stops)...")
    start_time = time.perf_counter()
    for epoch in range(epochs_done + 1, args.epochs + 1):
        train_loss, train_acc = train_epoch(
            model, train_loader, loss_fn, optimizer, scheduler, args
        )
        val_loss, val_acc, _ = evaluate(model, val_loader, args.device)
        history["train_loss"].append(train_loss)
        history["train_acc"].append(train_acc)
        history["val_loss"].append(val_loss)
        history["val_acc"].append(val_acc)

        # save after every epoch, so that a crash costs no more than one
        save_checkpoint(args, sets, history, model, optimizer, scheduler)
        print(f"[INFO] epoch {epoch}/{args.epochs}")
        print(f"[INFO] train loss {train_loss:.4f}, train accuracy {train_acc:.4f}")
        print(f"[INFO] validation loss {val_loss:.4f}, validation accuracy {val_acc:.4f}")
        save_plot(args.plot, history, sets)
    seconds = time.perf_counter() - start_time
    print(f"[INFO] trained in {seconds:.1f} s: see {args.model}, {args.plot}")

    # evaluate the network on images that it has never seen, and plot the confusion matrix, too
    predictions = report(model, test_loader, sets, args.device)
    save_plot(args.plot, history, sets, predictions)


def train_epoch(model, loader, loss_fn, optimizer, scheduler, args):
    """Train for one epoch; return the mean loss per image and the accuracy in [0, 1].

    Both are means over an epoch in which the network improves (with --augment, of deformed images).
    """
    # training mode: matters for layers such as dropout (LeNet has none)
    model.train()
    total_loss, num_correct = 0, 0

    for images, labels in progress_bar(loader, "training"):
        images, labels = images.to(args.device), labels.to(args.device)  # where the network is
        if args.augment:
            images = warp(images)  # deform each image a little

        # 3: make predictions and compute the loss
        with devices.mixed_precision(args):  # with --amp, faster, in bfloat16
            log_probs = model(images)
            loss = loss_fn(log_probs, labels)

        # 4: zero the gradients and backpropagate
        optimizer.zero_grad()
        loss.backward()

        # 5: update the parameters (and the learning rate, which --augment changes in every step)
        optimizer.step()
        if scheduler:
            scheduler.step()

        # loss is the mean over this batch: make it a sum; detach() drops its computation graph
        total_loss += loss.detach() * len(images)
        num_correct += (log_probs.argmax(dim=1) == labels).sum()

    num_images = len(loader.dataset)
    # both totals are tensors; item() waits for a GPU, so it is called only once per epoch
    return total_loss.item() / num_images, num_correct.item() / num_images


def evaluate(model, loader, device):
    """Return the mean loss per image, the accuracy in [0, 1], and the predicted labels."""
    model.eval()
    # not the loss function of --augment, so that all validation losses can be compared
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
    predictions = torch.cat(predictions).cpu()  # join the batches; scikit-learn needs the CPU
    return total_loss.item() / num_images, num_correct.item() / num_images, predictions


def report(model, loader, sets, device):
    """Print precision, recall and F1-score of each class; return the predicted labels."""
    print(f"[INFO] evaluating on the test images, {sets.title}...")
    _, _, predictions = evaluate(model, loader, device)
    _, labels = sets.test[:]  # all images, all labels
    # only names that occur; zero_division: the precision of a class that is never predicted
    names = occurring_classes(labels, predictions, sets.classes)
    print(classification_report(labels, predictions, target_names=names, digits=4, zero_division=0))
    print(f"[INFO] {describe_confusions(labels, predictions, sets.classes)}")
    return predictions


def parse_arguments():
    parser = ArgumentParser(description=__doc__, formatter_class=cli.HelpFormatter)
    parser.add_argument(
        "-m", "--model", type=cli.model_path, default="output/model.pth", help="checkpoint file"
    )
    parser.add_argument(
        "-p", "--plot", type=cli.png_path, default="output/plot.png", help="plot of the results"
    )
    parser.add_argument("-d", "--data", type=cli.path, help="dataset folder (default: data)")
    parser.add_argument(
        "--dataset",
        choices=["auto", "kmnist", "pictures", "synthetic"],
        default="auto",
        help="kmnist: downloaded if need be; pictures: DATA/train/CLASS/*, DATA/test/CLASS/*; "
        "auto: what DATA holds, else KMNIST, else synthetic Hiragana",
    )
    parser.add_argument(
        "-e", "--epochs", type=cli.positive_int, default=10, help="number of epochs in all"
    )
    parser.add_argument("-b", "--batch-size", type=cli.positive_int, default=64, help="batch size")
    parser.add_argument("-l", "--lr", type=cli.between_0_and_1, default=1e-3, help="learning rate")
    parser.add_argument(
        "--val-split", type=cli.between_0_and_1, default=0.25, help="validation fraction"
    )
    parser.add_argument("--augment", action="store_true", help="random warps, and their recipe")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision, in bfloat16")
    parser.add_argument("--resume", action="store_true", help="resume training from MODEL")
    # choose() turns the text into a device: "auto" is the GPU if there is one, else the CPU
    parser.add_argument("--device", type=devices.choose, default="auto", help=devices.HELP)
    parser.add_argument("--seed", type=cli.seed, default=42, help="random seed")
    # with --resume, options that are not given now come from the checkpoint
    return cli.with_saved_options(parser.parse_args(), parser)


if __name__ == "__main__":
    cli.run(main)  # calls main(), and shows errors in one line
