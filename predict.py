"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

from modules import cli, viewer
from modules.checkpoint import load_network
from modules.datasets import load_test_images, to_input
from modules.messages import UserError
from modules.pictures import find_pictures, read_picture
from modules.preprocess import find_character

import argparse
import sys

import torch


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    model, checkpoint = load_network(args.model, args.device)
    if args.draw:
        draw(model, checkpoint, args)
    elif args.image:
        show_pictures(model, checkpoint, args)
    elif args.mistakes:
        show_mistakes(model, checkpoint, args)
    else:
        show_test_images(model, checkpoint, args)


def show_test_images(model, checkpoint, args):
    # load random test images, and predict their classes
    images, labels = load_test_images(checkpoint, args.data, num=args.num)
    probabilities = predict(model, images)
    num_wrong = (probabilities.argmax(dim=1) != labels).sum()
    print(f"[INFO] {num_wrong} of {len(images)} test images misclassified")
    show(images, labels, probabilities, checkpoint, args)


def show_mistakes(model, checkpoint, args):
    # predict the classes of all test images
    images, labels = load_test_images(checkpoint, args.data)
    probabilities = predict(model, images)
    confidences, predicted = probabilities.max(dim=1)
    is_wrong = predicted != labels
    num_wrong = is_wrong.sum().item()
    accuracy = 1 - num_wrong / len(images)
    print(f"[INFO] {num_wrong} of {len(images)} test images misclassified, accuracy {accuracy:.2%}")

    # pick those that are misclassified, the most confident first
    mistakes = torch.where(is_wrong)[0]
    order = confidences[mistakes].argsort(descending=True)
    chosen = mistakes[order][: args.num]
    show(images[chosen], labels[chosen], probabilities[chosen], checkpoint, args)


def show(images, labels, probabilities, checkpoint, args):
    # print the predictions, and show them on the images
    classes = checkpoint["classes"]
    gallery = viewer.Gallery(classes)
    for image, label, probs in zip(images, labels, probabilities):
        prediction = viewer.describe(probs, classes)
        print(f"[INFO] ground truth label: {classes[label]}, predicted label: {prediction}")
        gallery.add(image, probs, truth=label)
    gallery.save_and_show(args.output, args.no_display)


def show_pictures(model, checkpoint, args):
    # find the picture files, of which --output must be none
    paths = find_pictures(args.image, output=args.output)
    classes = checkpoint["classes"]
    gallery = viewer.Gallery(classes)
    num_failed = 0
    for path in paths:
        # read a picture, find the character in it, and predict its class
        try:
            picture = read_picture(path)
            image, probs, box = predict_picture(model, checkpoint, picture)
        except UserError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        print(f"[INFO] {path}: predicted label: {viewer.describe(probs, classes)}")
        gallery.add(image, probs, picture=picture, box=box)
    gallery.save_and_show(args.output, args.no_display)

    if num_failed:
        if len(paths) > 1:
            text = f"[ERROR] {num_failed} of {len(paths)} pictures have no prediction: see above"
            print(text, file=sys.stderr)
        sys.exit(1)


def draw(model, checkpoint, args):
    classes = checkpoint["classes"]

    # the window calls this after every stroke; it catches the UserError of find_character()
    def annotate_drawing(drawing):
        image, probs, _ = predict_picture(model, checkpoint, drawing)
        print(f"[INFO] predicted label: {viewer.describe(probs, classes)}")
        return viewer.annotate(image, probs, classes)

    viewer.draw(annotate_drawing, folder=args.output.parent / "drawings")


def predict_picture(model, checkpoint, picture):
    """Find the character in a Pillow image, and predict its class.

    Returns the character, (1, 28, 28) float32; the probabilities, (classes,); and its box.
    """
    # with classes of your own, a picture of 28×28 pixels is used as it is, as in training; else,
    # it is inverted if its ink is dark
    own_classes = checkpoint["dataset"] == "pictures"
    image, box = find_character(picture, keep_28x28=own_classes)
    image = to_input(image)
    return image, predict(model, image[None])[0], box


def predict(model, images):
    """Return the probability of each class, (N, classes), for images, (N, 1, 28, 28) float32."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        log_probs = torch.cat([model(batch.to(device)) for batch in images.split(250)])
    # the exponential of a log-probability is the probability
    return log_probs.exp().cpu()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    scene = parser.add_mutually_exclusive_group()
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.model_path, default="output/model.pth",
                        help="checkpoint file (default: %(default)s)")
    parser.add_argument("-d", "--data", type=cli.path,
                        help="dataset folder (default: the one that the model was trained on)")
    parser.add_argument("-n", "--num", type=cli.positive_int, default=10,
                        help="number of test images; with --mistakes, at most (default: 10)")
    scene.add_argument("-i", "--image", type=cli.path, nargs="+", metavar="PATH",
                      help="your pictures of one character each: files, folders or patterns")
    scene.add_argument("--mistakes", action="store_true", help="show misclassified test images")
    scene.add_argument("--draw", action="store_true", help="draw characters with the mouse")
    parser.add_argument("-o", "--output", type=cli.png_path, default="output/predictions.png",
                        help="montage of the predictions (default: %(default)s)")
    parser.add_argument("--no-display", action="store_true", help="do not open a window")
    parser.add_argument("--device", type=cli.device, default="auto", help=cli.DEVICE_HELP)
    parser.add_argument("--seed", type=cli.seed, default=42,
                        help="random seed that chooses the test images (default: %(default)s)")
    # fmt: on
    args = parser.parse_args()
    if args.draw and args.no_display:
        parser.error("--draw opens a window: leave --no-display out")
    return args


if __name__ == "__main__":
    # call main(), and show errors in one line
    cli.run(main)
