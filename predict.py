"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

from modules import cli, viewer
from modules.checkpoint import load_checkpoint
from modules.datasets import check_exists, load_dataset
from modules.lenet import LeNet
from modules.preprocess import find_pictures, read_picture, to_kmnist

import argparse
import sys
from pathlib import Path

import torch


def predict(model, images, device):
    """Return the probability of each class, (N, classes), for images, (N, 28, 28) uint8."""
    model.eval()
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        batches = torch.as_tensor(images).unsqueeze(1).split(250)
        log_probs = [model(batch.to(device) / 255) for batch in batches]
    # the exponential of a log-probability is the probability
    return torch.cat(log_probs).exp().cpu()


def describe(probabilities, classes):
    """Return the predicted class, and lines of text: it, and the second class if at least 10%."""
    best, labels = probabilities.topk(2)
    first, second = (classes[label] for label in labels)
    lines = [f"{first} {best[0]:.1%}", f"or {second} {best[1]:.1%}"]
    return first, lines if best[1] >= 0.1 else lines[:1]


def show_test_images(model, test_data, args):
    """Print the predictions for random or misclassified test images; return their pictures."""
    torch.manual_seed(args.seed)
    chosen = torch.randperm(len(test_data))[: None if args.mistakes else args.num]
    images, labels = test_data.images[chosen].numpy(), test_data.labels[chosen]
    probabilities = predict(model, images, args.device)
    confidences, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten()

    score = f"{len(wrong)} of {len(images)} test images misclassified"

    order, annotated = range(len(images)), []
    if args.mistakes:
        score += f", accuracy {1 - len(wrong) / len(images):.2%}"
        # the most confident first
        order = wrong[confidences[wrong].argsort(descending=True)][: args.num]
    print(f"[INFO] {score}")
    for i in order:
        truth = test_data.classes[labels[i]]
        label, lines = describe(probabilities[i], test_data.classes)
        print(f"[INFO] ground truth label: {truth}, predicted label: {' '.join(lines)}")
        if len(annotated) < viewer.MAX_IMAGES:
            color = viewer.GREEN if label == truth else viewer.RED
            lines = lines if label == truth else [lines[0], f"true: {truth}"]
            annotated.append(viewer.annotate(images[i], label, lines, color))
    return annotated


def show_pictures(model, classes, paths, device):
    """Print the predictions for the user's pictures; return them, and the number of failures."""
    annotated, num_failed = [], 0
    for path in paths:
        try:
            picture = read_picture(path)
            image = to_kmnist(picture)
        except ValueError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        label, lines = describe(predict(model, image[None], device)[0], classes)
        print(f"[INFO] {path}: predicted label: {' '.join(lines)}")
        if len(annotated) < viewer.MAX_IMAGES:
            annotated.append(viewer.annotate(image, label, lines, picture=picture))
    return annotated, num_failed


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    show = parser.add_mutually_exclusive_group()
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.path, default="output/model.pth",
                        help="checkpoint file (default: %(default)s)")
    parser.add_argument("-d", "--data", type=cli.path,
                        help="dataset folder (default: the one that the model was trained on)")
    parser.add_argument("-n", "--num", type=cli.positive_int, default=10,
                        help="number of test images (default: %(default)s)")
    show.add_argument("-i", "--image", type=cli.path, nargs="+", metavar="PATH",
                      help="your pictures of one character each: files, folders or patterns")
    show.add_argument("--mistakes", action="store_true", help="show misclassified test images")
    show.add_argument("--draw", action="store_true", help="draw characters with the mouse")
    parser.add_argument("-o", "--output", type=cli.png_path, default="output/predictions.png",
                        help="montage of the predictions (default: %(default)s)")
    parser.add_argument("--no-display", action="store_true", help="do not open a window")
    parser.add_argument("--device", type=cli.device, default="auto", help=cli.DEVICES)
    parser.add_argument("--seed", type=cli.seed, default=42,
                        help="random seed that chooses the test images (default: %(default)s)")
    # fmt: on
    return parser.parse_args()


def main():
    args = parse_arguments()

    # load the trained network
    checkpoint = load_checkpoint(args.model)
    classes = checkpoint["classes"]
    model = LeNet(numChannels=1, classes=len(classes))
    model.load_state_dict(checkpoint["model"])
    model.to(args.device)

    can_display = not args.no_display and viewer.has_screen()
    if args.draw:
        if not can_display:
            sys.exit(f"[ERROR] --no-display, or {viewer.NO_WINDOW}: use --image instead of --draw")
        viewer.draw(
            lambda image: describe(predict(model, image[None], args.device)[0], classes),
            folder=args.output.parent / "drawings",
        )
        return

    # predict the classes of the user's pictures, or of test images
    num_failed = 0
    if args.image:
        paths = find_pictures(args.image)
        if args.output.resolve() in [path.resolve() for path in paths]:
            sys.exit(f"[ERROR] {args.output} is one of your pictures: choose another --output")
        annotated, num_failed = show_pictures(model, classes, paths, args.device)
    else:
        dataset = "kmnist" if args.data else checkpoint["settings"]["dataset"]
        root = args.data or Path(checkpoint["data"])
        if dataset == "kmnist":
            check_exists(root)
        test_data = load_dataset(dataset, root, train=False)
        annotated = show_test_images(model, test_data, args)

    # present the annotated images: in a montage and, where there is a screen, in a window
    if annotated:
        viewer.save_montage(args.output, annotated)
        print(f"[INFO] saved {args.output}")
        if can_display:
            viewer.show(annotated)
        elif not args.no_display:
            print(f"[INFO] {viewer.NO_WINDOW}: open {args.output} instead")
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    cli.run(main)
