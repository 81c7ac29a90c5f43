"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from modules import cli
from modules import viewer
from modules.checkpoint import load_checkpoint
from modules.datasets import label_text
from modules.datasets import load_test_images
from modules.lenet import LeNet
from modules.preprocess import find_pictures
from modules.preprocess import read_picture
from modules.preprocess import to_kmnist


def predict(model, images, device):
    """Return the probability of each class, (N, classes), for images, (N, 28, 28) uint8."""
    model.eval()
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        batches = torch.as_tensor(images).unsqueeze(1).split(250)
        log_probs = [model(batch.to(device).float() / 255) for batch in batches]
    # the exponential of a log-probability is the probability
    return torch.cat(log_probs).exp().cpu()


def best_classes(probabilities, classes):
    """Return the three most probable classes, pairs of a name, `き (ki)`, and a probability."""
    best, labels = probabilities.topk(3)
    return [
        (label_text(classes[label]), probability)
        for probability, label in zip(best.tolist(), labels.tolist(), strict=True)
    ]


def describe(best):
    """Return the prediction as text, and the second most probable class if it has 10 % or more."""
    prediction, second, _ = (f"{name} {100 * probability:.1f} %" for name, probability in best)
    return prediction, f"or {second}" if best[1][1] >= 0.1 else ""


def choose_test_images(model, test_data, args):
    """Return the indices of random test images or, with --mistakes, of misclassified ones."""
    num_images = len(test_data)
    if not args.mistakes:
        rng = np.random.default_rng(args.seed)
        return rng.choice(num_images, size=min(args.num, num_images), replace=False)

    confidences, predicted = predict(model, test_data.data, args.device).max(dim=1)
    wrong = (predicted != test_data.targets).nonzero().flatten()
    print(f"[INFO] {len(wrong)} of {num_images} test images misclassified, ", end="")
    print(f"accuracy {100 * (1 - len(wrong) / num_images):.2f} %")
    # the most confident first
    return wrong[confidences[wrong].argsort(descending=True)][: args.num]


def load_pictures(paths, failed):
    """Yield the path of each picture, the picture, and the 28×28 image of its character.

    Prints a line for each path that gives none, and appends it to the list `failed`.
    """
    for path in find_pictures(paths):
        try:
            picture = read_picture(path)
            yield path, picture, to_kmnist(picture)
        except ValueError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            failed.append(path)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add, missing = parser.add_argument, argparse.SUPPRESS
    add("-m", "--model", type=Path, default="output/model.pth", help="the trained model")
    text = "dataset folder (default: the one that the model was trained on)"
    add("-d", "--data", type=Path, default=missing, help=text)
    add("-n", "--num", type=cli.positive_int, default=10, help="number of test images")
    add_one_of = parser.add_mutually_exclusive_group().add_argument
    text = "your pictures of one character each, files or folders (default: test images)"
    add_one_of("-i", "--image", type=Path, nargs="+", metavar="PATH", default=missing, help=text)
    add_one_of("--mistakes", action="store_true", help="misclassified test images")
    add_one_of("--draw", action="store_true", help="draw characters with the mouse")
    text = "montage of the predictions; drawings are saved beside it"
    add("-o", "--output", type=cli.png_path, default="output/predictions.png", help=text)
    add("--no-display", action="store_true", help="open no window")
    cli.add_shared_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    cli.check_outputs(args.output)

    # load the trained network
    checkpoint = load_checkpoint(args.model)
    classes = checkpoint["classes"]
    model = LeNet(numChannels=1, classes=len(classes))
    model.load_state_dict(checkpoint["model"])
    model.to(args.device)

    def classify(image):
        return best_classes(predict(model, image[np.newaxis], args.device)[0], classes)

    if args.draw:
        if args.no_display or not viewer.has_screen():
            sys.exit("[ERROR] --draw needs a screen, and none can be reached: use --image instead")
        viewer.draw(classify, args.output.parent)
        return

    # choose images, predict their classes, and draw a card of each
    cards, failed, num_wrong = [], [], 0
    if "image" in args:
        if args.output.resolve() in [path.resolve() for path in find_pictures(args.image)]:
            sys.exit(f"[ERROR] {args.output} is one of your pictures: choose another --output")
        for path, picture, image in load_pictures(args.image, failed):
            prediction, second = describe(classify(image))
            print(f"[INFO] {path}: predicted label: {prediction} {second}".rstrip())
            if len(cards) < viewer.MAX_CARDS:
                cards.append(viewer.annotate(image, prediction, second, picture=picture))
    else:
        root = args.data if "data" in args else checkpoint["data"]
        test_data = load_test_images(checkpoint["dataset"], root)
        chosen = choose_test_images(model, test_data, args)
        for i in chosen:
            image, truth = test_data.data[i].numpy(), label_text(classes[test_data.targets[i]])
            best = classify(image)
            prediction, second = describe(best)
            line = f"ground truth label: {truth}, predicted label: {prediction} {second}"
            print(f"[INFO] {line}".rstrip())
            wrong_truth = "" if best[0][0] == truth else truth
            num_wrong += bool(wrong_truth)
            if len(cards) < viewer.MAX_CARDS:
                cards.append(viewer.annotate(image, prediction, second, wrong_truth))
        if not args.mistakes:
            print(f"[INFO] {num_wrong} of {len(chosen)} test images misclassified")

    # present the cards: in a montage and, where there is a screen, in a window
    if cards:
        viewer.save_montage(args.output, cards)
        print(f"[INFO] saved {args.output}")
        if not args.no_display:
            viewer.show(cards)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    cli.run(main)
