"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

from modules import cli, viewer
from modules.classifier import describe, load_network, predict
from modules.datasets import has_pictures, load_dataset, require_folder
from modules.errors import UserError
from modules.pictures import find_pictures, read_picture
from modules.preprocess import find_character

import argparse
import sys
from os.path import realpath
from pathlib import Path

import torch


def show_test_images(model, test_data, num, seed, mistakes=False):
    """Print the predictions for random or misclassified test images; return annotated images."""
    torch.manual_seed(seed)
    shuffled = torch.randperm(len(test_data))
    chosen = shuffled if mistakes else shuffled[:num]
    images, labels = test_data.images[chosen], test_data.labels[chosen]
    probabilities = predict(model, images)
    confidences, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten()

    score = f"{len(wrong)} of {len(images)} test images misclassified"
    selected = range(len(images))
    if mistakes:
        score += f", accuracy {1 - len(wrong) / len(images):.2%}"
        # the most confident first
        selected = wrong[confidences[wrong].argsort(descending=True)][:num]
    print(f"[INFO] {score}")

    annotated, classes = [], test_data.classes
    for i in selected:
        _, lines = describe(probabilities[i], classes)
        truth = classes[labels[i]]
        print(f"[INFO] ground truth label: {truth}, predicted label: {' '.join(lines)}")
        # one more than are shown, which tells that there are more
        if len(annotated) <= viewer.MAX_IMAGES:
            image = images[i].numpy()
            annotated.append(viewer.annotate(image, probabilities[i], classes, labels[i]))
    return annotated


def show_picture(model, classes, picture, title=None):
    """Print the prediction for a user's picture, a Pillow image; return an annotated image."""
    image, box = find_character(picture)
    probabilities = predict(model, image[None])[0]
    _, lines = describe(probabilities, classes)
    prefix = f"{title}: " if title else ""
    print(f"[INFO] {prefix}predicted label: {' '.join(lines)}")
    # a drawing is on the canvas already
    if not title:
        return viewer.annotate(image, probabilities, classes)
    return viewer.annotate(image, probabilities, classes, picture=picture, box=box)


def show_pictures(model, classes, paths):
    """Print the predictions for the user's pictures; return annotated images, and the failures."""
    annotated, num_failed = [], 0
    for path in paths:
        try:
            image = show_picture(model, classes, read_picture(path), title=path)
        except UserError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        if len(annotated) <= viewer.MAX_IMAGES:
            annotated.append(image)
    return annotated, num_failed


def draw(model, classes, folder):
    """Let the user draw characters, and print and show the prediction after every stroke."""

    def annotate_drawing(drawing):
        try:
            return show_picture(model, classes, drawing)
        except UserError:
            # a dot may be too small for a character
            return None

    viewer.draw(annotate_drawing, folder)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    show = parser.add_mutually_exclusive_group()
    # fmt: off
    parser.add_argument("-m", "--model", type=cli.file_path, default="output/model.pth",
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
    args = parser.parse_args()
    if realpath(args.output) == realpath(args.model):
        parser.error("--output is the same file as --model")
    if args.draw and args.no_display:
        parser.error("--draw opens a window: leave --no-display out")
    return args


def load_test_data(args, checkpoint):
    """Return the test images in --data, or those of the dataset that the model was trained on."""
    name, root = checkpoint["dataset"], Path(checkpoint["data"])
    if args.data:
        root = args.data
        # a folder may hold both
        is_kmnist = name != "pictures" and (root / "KMNIST").is_dir()
        name = "pictures" if has_pictures(root) and not is_kmnist else "kmnist"
    require_folder(name, root)
    test_data = load_dataset(name, root, train=False)
    if test_data.classes != checkpoint["classes"]:
        raise UserError(
            f"{root} has other classes ({', '.join(test_data.classes)}) than {args.model}"
        )
    return test_data


def main():
    args = parse_arguments()

    # load the trained network
    model, checkpoint = load_network(args.model, args.device)
    classes = checkpoint["classes"]

    if args.draw:
        if not viewer.has_screen():
            raise UserError(f"{viewer.NO_WINDOW}: use --image instead of --draw")
        draw(model, classes, folder=args.output.parent / "drawings")
        return

    # predict the classes of the user's pictures, or of test images
    num_failed = 0
    if args.image:
        paths = find_pictures(args.image)
        if realpath(args.output) in [realpath(path) for path in paths]:
            raise UserError(f"{args.output} is one of your pictures: choose another --output")
        annotated, num_failed = show_pictures(model, classes, paths)
    else:
        test_data = load_test_data(args, checkpoint)
        annotated = show_test_images(model, test_data, args.num, args.seed, args.mistakes)

    # present the annotated images: in a montage and, where there is a screen, in a window
    if annotated:
        if len(annotated) > viewer.MAX_IMAGES:
            print(f"[INFO] at most {viewer.MAX_IMAGES} images are shown")
            annotated = annotated[: viewer.MAX_IMAGES]
        viewer.save_montage(args.output, annotated)
        print(f"[INFO] saved {args.output}")
        if not args.no_display:
            if viewer.has_screen():
                viewer.show(annotated)
            else:
                print(f"[INFO] {viewer.NO_WINDOW}: open {args.output} instead")
    if num_failed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
