"""Show what a trained LeNet makes of test images, of your own pictures, or of what you draw."""

import modules.interrupt  # noqa: F401 - Ctrl-C is welcome during the other imports, too

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from modules import cli
from modules import viewer
from modules.checkpoint import load_model
from modules.datasets import label_text
from modules.datasets import load_test_images
from modules.files import check_writable
from modules.ink import find_pictures
from modules.ink import read_picture
from modules.ink import to_kmnist


def predict(model, images, device):
    """Return the probability of each class, (N, classes), for images, (N, 28, 28) uint8."""
    # evaluation mode and no gradients: nothing is learned here
    model.eval()
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        batches = torch.as_tensor(images).unsqueeze(1).split(250)
        log_probs = [model(batch.to(device).float() / 255) for batch in batches]
    # the exponential of a log-probability is the probability
    return torch.cat(log_probs).exp().cpu()


def best_guesses(probabilities, classes, encoding="utf-8"):
    """Return the three best classes, each as text, `き (ki) 93.1 %`, and its probability."""
    best, labels = probabilities.topk(min(3, len(classes)))
    return [
        (f"{label_text(classes[label], encoding)} {100 * probability:.1f} %", probability)
        for probability, label in zip(best.tolist(), labels.tolist(), strict=True)
    ]


def describe(probabilities, classes, encoding="utf-8"):
    """Return the prediction as text, and the second guess, "" if it is hardly worth a mention."""
    (prediction, _), *others = best_guesses(probabilities, classes, encoding)
    return prediction, f"or {others[0][0]}" if others and others[0][1] >= 0.1 else ""


def show_test_images(model, classes, dataset, args):
    """Print what the network makes of random test images, or of its mistakes; return cards."""
    test_data = load_test_images(dataset, args.data)
    chosen = np.arange(len(test_data))
    if not args.mistakes:
        rng = np.random.default_rng(args.seed)
        chosen = rng.choice(chosen, size=min(args.num, len(chosen)), replace=False)

    probabilities = predict(model, test_data.data[chosen], args.device)
    predicted = [classes[label] for label in probabilities.argmax(dim=1)]
    truths = [test_data.classes[label] for label in test_data.targets[chosen]]
    mistaken = [a != b for a, b in zip(predicted, truths, strict=True)]

    shown = range(len(chosen))
    score = f"{sum(mistaken)} of {len(chosen)} test images mistaken"
    if args.mistakes:
        print(f"[INFO] {score}, accuracy {100 * (1 - sum(mistaken) / len(chosen)):.2f} %")
        # the most confident first
        shown = probabilities.max(dim=1).values.argsort(descending=True).tolist()
        shown = [i for i in shown if mistaken[i]][: args.num]

    cards = []
    for i in shown:
        encoding = sys.stdout.encoding
        prediction, second = describe(probabilities[i], classes, encoding)
        truth = label_text(truths[i], encoding)
        print(
            f"[INFO] ground truth label: {truth}, predicted label: {prediction} {second}".rstrip()
        )

        if len(cards) < viewer.MAX_CARDS:
            image = test_data.data[chosen[i]].numpy()
            truth = label_text(truths[i]) if mistaken[i] else ""
            cards.append(viewer.annotate(image, *describe(probabilities[i], classes), truth))
    if not args.mistakes:
        print(f"[INFO] {score}")
    return cards


def show_own_pictures(model, classes, args):
    """Print what the network makes of --image; return cards, and how many pictures were no good."""
    cards, num_failed = [], 0
    for path in find_pictures(args.image):
        try:
            picture = read_picture(path)
            image = to_kmnist(picture)
        except ValueError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        probabilities = predict(model, image[np.newaxis], args.device)[0]
        prediction = " ".join(describe(probabilities, classes, sys.stdout.encoding)).rstrip()
        print(f"[INFO] {path}: predicted label: {prediction}")
        if len(cards) < viewer.MAX_CARDS:
            texts = describe(probabilities, classes)
            cards.append(viewer.annotate(image, *texts, given=picture))
    return cards, num_failed


def draw(model, classes, args):
    """Let the user draw, and show and print what the network makes of it."""

    def guess(image):
        probabilities = predict(model, image[np.newaxis], args.device)[0]
        guesses = best_guesses(probabilities, classes, sys.stdout.encoding)
        print(f"[INFO] drawn: {', '.join(text for text, _ in guesses)}")
        return best_guesses(probabilities, classes)

    viewer.draw(guess, folder=args.output.parent)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, default="output/model.pth", help="the trained model")
    add("-n", "--num", type=cli.positive_int, default=10, help="how many test images")
    instead = parser.add_mutually_exclusive_group().add_argument
    help_text = "your own pictures of one character each, files or folders (default: test images)"
    instead("-i", "--image", type=Path, nargs="+", metavar="PATH", help=help_text)
    instead("--mistakes", action="store_true", help="the test images it gets wrong, surest first")
    instead("--draw", action="store_true", help="draw a character with the mouse")
    add(
        "-o",
        "--output",
        type=cli.png_path,
        default="output/predictions.png",
        help="picture of them all; drawings are saved beside it",
    )
    add("--no-display", action="store_true", help="open no window even where one could be")
    cli.add_shared_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    cli.check_device(args.device)
    # find out whether there is a screen while the rest gets ready
    screen = None if args.no_display else viewer.ask_for_screen()
    model, classes, dataset = load_model(args.model)
    model = model.to(args.device)
    check_writable(args.output)
    if args.output.resolve() in [path.resolve() for path in find_pictures(args.image or [])]:
        sys.exit(f"[ERROR] {args.output} is one of your pictures: name another file with -o")

    if args.draw:
        if not viewer.screen_found(screen):
            sys.exit("[ERROR] no screen can be reached, and --draw needs one: see --image instead")
        return draw(model, classes, args)

    num_failed = 0
    if args.image:
        cards, num_failed = show_own_pictures(model, classes, args)
    else:
        cards = show_test_images(model, classes, dataset, args)
    if cards:
        viewer.save_montage(args.output, cards)
        print(f"[INFO] saved {args.output}, {len(cards)} predictions in one picture")

        # show them one at a time where a screen can be reached
        if viewer.screen_found(screen):
            print("[INFO] press a key in the window for the next one, q to end...")
            viewer.show(cards)
        elif screen:
            print("[INFO] no screen can be reached: open that picture to see them")
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    cli.run(main)
