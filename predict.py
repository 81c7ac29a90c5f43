"""Show what a trained LeNet makes of random test images."""

import modules.interrupt  # noqa: F401 - Ctrl-C is welcome during the other imports, too

import argparse
from pathlib import Path

import numpy as np
import torch

from modules import cli
from modules import viewer
from modules.checkpoint import load_model
from modules.datasets import label_text
from modules.datasets import load_test_images
from modules.files import check_writable


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("-m", "--model", type=Path, default="output/model.pth", help="the trained model")
    add("-n", "--num", type=cli.positive_int, default=10, help="how many random test images")
    add(
        "-o",
        "--output",
        type=cli.png_path,
        default="output/predictions.png",
        help="picture of them all",
    )
    add("--no-display", action="store_true", help="open no window even where one could be")
    cli.add_shared_arguments(parser)
    return parser.parse_args()


def main():
    args = parse_arguments()
    cli.check_device(args.device)

    print(f"[INFO] loading the model from {args.model}...")
    model, classes, dataset = load_model(args.model)
    model = model.to(args.device)
    check_writable(args.output)

    # choose random test images of the dataset that the model was trained on
    test_data = load_test_images(dataset, args.data)
    num_images = min(args.num, len(test_data))
    rng = np.random.default_rng(args.seed)
    chosen = rng.choice(len(test_data), size=num_images, replace=False)

    # evaluation mode and no gradients: nothing is learned here
    model.eval()
    pictures = []
    with torch.no_grad():
        for index in chosen:
            # the network takes batches: this one holds a single image
            image, label = test_data[index]
            log_probs = model(image.unsqueeze(0).to(args.device))

            # the highest log-probability is the prediction, its exponential the confidence
            log_prob, predicted = log_probs.max(dim=1)
            truth = label_text(test_data.classes[label])
            prediction = label_text(classes[predicted])
            correct = prediction == truth
            prediction += f" {100 * log_prob.exp().item():.1f} %"

            print(f"[INFO] ground truth label: {truth}, predicted label: {prediction}")
            pixels = test_data.data[index].numpy()
            pictures.append(viewer.annotate(pixels, prediction, truth, correct))

    viewer.save_montage(args.output, pictures)
    print(f"[INFO] all in one picture: {args.output}")

    # show them one at a time where a screen can be reached
    if not args.no_display:
        if viewer.screen_found():
            print("[INFO] press a key in the window for the next one...")
            viewer.show(pictures)
        else:
            print("[INFO] no screen can be reached: open that picture to see them")


if __name__ == "__main__":
    cli.run(main)
