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
    # pick random test images, and predict their classes
    torch.manual_seed(args.seed)
    images, labels = load_test_images(checkpoint, args.data, args.num)
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
    accuracy = 1 - is_wrong.double().mean()
    score = f"{is_wrong.sum()} of {len(images)} test images misclassified, accuracy {accuracy:.2%}"
    print(f"[INFO] {score}")

    # pick those that are misclassified, the most confident first
    order = confidences.argsort(descending=True)
    chosen = order[is_wrong[order]][: args.num]
    show(images[chosen], labels[chosen], probabilities[chosen], checkpoint, args)


def show(images, labels, probabilities, checkpoint, args):
    # print the predictions, and draw them on the images
    annotated, classes = [], checkpoint["classes"]
    for image, label, shares in zip(images, labels, probabilities):
        prediction = " ".join(viewer.describe(shares, classes))
        print(f"[INFO] ground truth label: {classes[label]}, predicted label: {prediction}")
        if len(annotated) < viewer.MAX_IMAGES:
            annotated.append(viewer.annotate(image, shares, classes, label))
    viewer.present(annotated, len(images), args.output, args.no_display)


def show_pictures(model, checkpoint, args):
    paths = find_pictures(args.image)
    if args.output.absolute() in [path.absolute() for path in paths]:
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


def draw(model, checkpoint, args):
    # the window calls this after every stroke
    def annotate_drawing(drawing):
        image, probabilities, _ = predict_picture(model, checkpoint, drawing)
        return viewer.annotate(image, probabilities, checkpoint["classes"])

    viewer.draw(annotate_drawing, folder=args.output.parent / "drawings")


def predict_picture(model, checkpoint, picture, title=""):
    """Find the character in a Pillow image, predict its class, and print it.

    Returns the character, (1, 28, 28) float32; the probabilities, (classes,); and its box.
    """
    # a network of one's own classes was trained on pictures of 28×28 pixels as they are
    image, box = find_character(picture, as_it_is=checkpoint["dataset"] == "pictures")
    image = to_input(image)
    probabilities = predict(model, image[None])[0]
    prediction = " ".join(viewer.describe(probabilities, checkpoint["classes"]))
    print(f"[INFO] {title}predicted label: {prediction}")
    return image, probabilities, box


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
    if args.draw and args.no_display:
        parser.error("--draw opens a window: leave --no-display out")
    return args


if __name__ == "__main__":
    cli.run(main)
