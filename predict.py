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


def describe(probabilities, classes):
    """Return two texts: the predicted class, `き (ki) 76.1 %`, and the second if at least 10 %."""
    best, labels = probabilities.topk(2)
    prediction, second = (
        f"{label_text(classes[label])} {100 * probability:.1f} %"
        for probability, label in zip(best, labels, strict=True)
    )
    return prediction, f"or {second}" if best[1] >= 0.1 else ""


def predict_test_images(model, test_data, args):
    """Yield the line to print and the contents of a card, for random or misclassified images."""
    chosen = np.arange(len(test_data))
    if not args.mistakes:
        rng = np.random.default_rng(args.seed)
        chosen = rng.choice(chosen, size=min(args.num, len(chosen)), replace=False)
    images, labels = test_data.data[chosen], test_data.targets[chosen]

    probabilities = predict(model, images, args.device)
    confidences, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten()
    print(f"[INFO] {len(wrong)} of {len(chosen)} test images misclassified, ", end="")
    print(f"accuracy {100 * (1 - len(wrong) / len(chosen)):.2f} %")

    # with --mistakes, the misclassified images, the most confident first
    order = range(len(chosen))
    if args.mistakes:
        order = wrong[confidences[wrong].argsort(descending=True)][: args.num]
    for i in order:
        truth = label_text(test_data.classes[labels[i]])
        prediction, second = describe(probabilities[i], test_data.classes)
        lines = [(prediction, viewer.GREEN), (second, viewer.GRAY)]
        if predicted[i] != labels[i]:
            lines = [(prediction, viewer.RED), (f"true: {truth}", viewer.RED), lines[1]]
        text = f"ground truth label: {truth}, predicted label: {prediction} {second}"
        yield text, images[i].numpy(), lines, None


def predict_pictures(classify, paths, failed):
    """Yield the same for the user's pictures; append those that cannot be used to `failed`."""
    for path in paths:
        try:
            picture = read_picture(path)
            image = to_kmnist(picture)
        except ValueError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            failed.append(path)
            continue
        prediction, second = classify(image)
        lines = [(prediction, viewer.WHITE), (second, viewer.GRAY)]
        yield f"{path}: predicted label: {prediction} {second}", image, lines, picture


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add, missing = parser.add_argument, argparse.SUPPRESS
    add("-m", "--model", type=Path, default="output/model.pth", help="the trained model")
    text = "dataset folder (default: the one that the model was trained on)"
    add("-d", "--data", type=cli.folder, default=missing, help=text)
    add("-n", "--num", type=cli.positive_int, default=10, help="number of test images")
    add_one_of = parser.add_mutually_exclusive_group().add_argument
    text = "your pictures of one character each, files or folders (default: test images)"
    add_one_of("-i", "--image", type=Path, nargs="+", metavar="PATH", default=missing, help=text)
    add_one_of("--mistakes", action="store_true", help="show misclassified test images")
    add_one_of("--draw", action="store_true", help="draw characters with the mouse")
    text = "montage of the predictions; drawings are saved beside it"
    add("-o", "--output", type=cli.png_path, default="output/predictions.png", help=text)
    add("--no-display", action="store_true", help="do not open a window")
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
        return describe(predict(model, image[np.newaxis], args.device)[0], classes)

    if args.draw:
        if args.no_display or not viewer.has_screen():
            sys.exit(
                "[ERROR] --draw needs a screen (none found, or --no-display): use --image instead"
            )
        viewer.draw(classify, args.output.parent)
        return

    # choose images, and predict their classes
    failed = []
    if "image" in args:
        paths = find_pictures(args.image)
        if args.output.resolve() in [path.resolve() for path in paths]:
            sys.exit(f"[ERROR] {args.output} is one of your pictures: choose another --output")
        predictions = predict_pictures(classify, paths, failed)
    else:
        root = args.data if "data" in args else checkpoint["data"]
        test_data = load_test_images(checkpoint["dataset"], root)
        predictions = predict_test_images(model, test_data, args)

    # print each prediction, and draw a card for it
    cards = []
    for text, *card in predictions:
        print(f"[INFO] {text}".rstrip())
        if len(cards) < viewer.MAX_CARDS:
            cards.append(viewer.annotate(*card))

    # present the cards: in a montage and, where there is a screen, in a window
    if cards:
        viewer.save_montage(args.output, cards)
        print(f"[INFO] saved {args.output}")
        if not args.no_display:
            viewer.show(cards)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    cli.run(main)
