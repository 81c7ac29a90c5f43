"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

from modules import cli, viewer
from modules.checkpoint import load_network
from modules.classifier import describe, predict, to_input
from modules.datasets import load_test_images
from modules.messages import UserError
from modules.pictures import find_pictures, read_picture
from modules.preprocess import find_character

import argparse
import sys
from os.path import realpath

import torch


def main(args):
    model, checkpoint = load_network(args.model, args.device)
    if args.draw:
        draw(model, checkpoint, folder=args.output.parent / "drawings")
    elif args.image:
        show_pictures(model, checkpoint, args)
    else:
        show_test_images(model, checkpoint, args)


def show_test_images(model, checkpoint, args):
    # pick random test images, or all of them to find the mistakes
    torch.manual_seed(args.seed)
    num_images = None if args.mistakes else args.num
    images, labels = load_test_images(checkpoint, args.data, num_images)

    # predict their classes
    probabilities = predict(model, images)
    confidences, predicted = probabilities.max(dim=1)
    is_wrong = predicted != labels
    score = f"{is_wrong.sum()} of {len(images)} test images misclassified"
    chosen = range(len(images))
    if args.mistakes:
        score += f", accuracy {1 - is_wrong.double().mean():.2%}"
        # the most confident first
        chosen = [i for i in confidences.argsort(descending=True) if is_wrong[i]][: args.num]

    # print the predictions
    classes = checkpoint["classes"]
    print(f"[INFO] {score}")
    for i in chosen:
        prediction = " ".join(describe(probabilities[i], classes))
        print(f"[INFO] ground truth label: {classes[labels[i]]}, predicted label: {prediction}")

    # show them on the images
    shown = chosen[: viewer.MAX_IMAGES]
    annotated = [viewer.annotate(images[i], probabilities[i], classes, labels[i]) for i in shown]
    viewer.present(annotated, len(chosen), args.output, args.no_display)


def show_pictures(model, checkpoint, args):
    paths = find_pictures(args.image)
    if realpath(args.output) in [realpath(path) for path in paths]:
        raise UserError(f"{args.output} is one of your pictures: choose another --output")
    annotated, num_failed, classes = [], 0, checkpoint["classes"]
    for path in paths:
        # read a picture, find the character in it, and predict its class
        try:
            picture = read_picture(path)
            image, probabilities, box = predict_picture(model, checkpoint, picture, f"{path}: ")
        except UserError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        if len(annotated) < viewer.MAX_IMAGES:
            card = viewer.annotate(image, probabilities, classes, picture=picture, box=box)
            annotated.append(card)

    # show the predictions beside the pictures
    viewer.present(annotated, len(paths) - num_failed, args.output, args.no_display)
    if num_failed:
        text = f"[ERROR] {num_failed} of {len(paths)} pictures have no prediction: see above"
        sys.exit(text if len(paths) > 1 else 1)


def draw(model, checkpoint, folder):
    # the window calls this after every stroke
    def annotate_drawing(drawing):
        try:
            image, probabilities, _ = predict_picture(model, checkpoint, drawing)
        except UserError:
            # there is nothing to show: a dot may be too small for a character
            return None
        return viewer.annotate(image, probabilities, checkpoint["classes"])

    viewer.draw(annotate_drawing, folder)


def predict_picture(model, checkpoint, picture, title=""):
    """Find the character in a Pillow image, predict its class, and print it.

    Returns the character, (1, 28, 28) float32; the probabilities, (classes,); and its box.
    """
    # a network of one's own classes was trained on pictures of 28×28 pixels as they are
    image, box = find_character(picture, as_it_is=checkpoint["dataset"] == "pictures")
    image = to_input(image)
    probabilities = predict(model, image[None])[0]
    prediction = " ".join(describe(probabilities, checkpoint["classes"]))
    print(f"[INFO] {title}predicted label: {prediction}")
    return image, probabilities, box


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    show = parser.add_mutually_exclusive_group()
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.file_path, default="output/model.pth",
                        help="checkpoint file (default: %(default)s)")
    parser.add_argument("-d", "--data", type=cli.path,
                        help="dataset folder (default: the one that the model was trained on)")
    parser.add_argument("-n", "--num", type=cli.positive_int, default=10,
                        help="number of test images; with --mistakes, at most (default: 10)")
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
    args = parser.parse_args()
    if realpath(args.output) == realpath(args.model):
        parser.error("--output is the same file as --model")
    if args.draw and args.no_display:
        parser.error("--draw opens a window: leave --no-display out")
    return args


if __name__ == "__main__":
    cli.run(main, parse_arguments)
