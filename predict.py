"""Show what a trained LeNet predicts for test images, for your own pictures or for a drawing."""

# keep this import first: it sets environment variables for PyTorch and OpenCV
from modules import cards, cli, devices, own_pictures, windows
from modules.checkpoint import load_network
from modules.datasets import load_test_images
from modules.predictions import find_mistakes

from argparse import ArgumentParser

import cv2
import imutils
import numpy as np
import torch


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)  # which test images are chosen

    # load the trained network; set evaluation mode, for layers such as dropout
    model, checkpoint = load_network(args.model, args.device)
    model.eval()

    # what the tutorial does not have: a drawing, and pictures of your own
    if args.draw:
        own_pictures.draw(model, checkpoint, args)
        return
    num_failed = 0  # pictures of --image without a prediction
    if args.image:
        annotated, num_failed = own_pictures.predict(model, checkpoint, args)
    else:
        annotated = predict_test_images(model, checkpoint, args)

    # save all images in one picture; show them in a window, or say which picture to open instead
    cards.save_montage(args.output, annotated, checkpoint["classes"])
    if annotated and not args.no_display and windows.can_open(instead=args.output):
        with windows.window("Prediction"):
            for card in annotated:
                cv2.imshow("Prediction", card)
                if windows.wait_for_key("Prediction") == "q":  # else, the next image
                    break
    if num_failed:
        raise SystemExit(1)  # the exit status tells a shell that something failed


def predict_test_images(model, checkpoint, args):
    """Predict test images, chosen at random; return them with their predictions below."""
    classes = checkpoint["classes"]
    names = cards.ascii_names(classes)  # as putText() can write them
    if args.mistakes:
        images, labels = find_mistakes(model, checkpoint, args)
    else:
        images, labels = load_test_images(checkpoint, args.data, args.num)  # at random

    annotated, num_wrong = [], 0
    for image, label in zip(images, labels.tolist()):
        # compute the log-probabilities of a batch of one image; exp() makes them probabilities
        with torch.inference_mode():
            log_probs = model(image.unsqueeze(0).to(args.device))
        probabilities = log_probs[0].exp().cpu()
        predicted = int(probabilities.argmax())

        # image[0] is the only channel: make bytes, three channels for colors, larger (sharp) pixels
        gray = (255 * image[0]).round().byte().numpy()
        pixels = np.dstack([gray, gray, gray])
        pixels = imutils.resize(pixels, width=14 * 28, inter=cv2.INTER_NEAREST)
        # add space, and write the prediction there: in green if it is correct, else in red
        card = cards.make_card(pixels)
        color = cards.GREEN if predicted == label else cards.RED
        text = f"{names[predicted]} {probabilities[predicted]:.1%}"
        scale = cards.font_scale(text)
        cv2.putText(card, text, cards.TEXT_START, cards.FONT, scale, color, 2, cv2.LINE_AA)
        # below, the true class if it is another, or the second class from 10% on
        cards.add_details(card, probabilities, classes, color, label)
        if len(annotated) < cards.MAX_CARDS:  # more would fill the memory
            annotated.append(card)
        num_wrong += predicted != label
        described = cards.describe(probabilities, classes)
        print(f"[INFO] ground truth label: {classes[label]}, predicted label: {described}")
    if not args.mistakes:  # find_mistakes() prints it, too
        print(f"[INFO] {num_wrong} of {len(images)} test images misclassified")
    return annotated


def parse_arguments():
    parser = ArgumentParser(description=__doc__, formatter_class=cli.HelpFormatter)
    parser.add_argument(
        "-m", "--model", type=cli.model_path, default="output/model.pth", help="checkpoint file"
    )
    parser.add_argument("-d", "--data", type=cli.path, help="dataset folder (default: the model's)")
    parser.add_argument("-n", "--num", type=cli.positive_int, default=10, help="number of images")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-i", "--image", type=cli.path, nargs="+", help="your pictures or folders")
    group.add_argument("--mistakes", action="store_true", help="show misclassified test images")
    group.add_argument("--draw", action="store_true", help="draw characters with the mouse")
    parser.add_argument(
        "-o", "--output", type=cli.png_path, default="output/predictions.png", help="montage"
    )
    parser.add_argument("--no-display", action="store_true", help="open no window")
    parser.add_argument("--device", type=devices.choose, default="auto", help=devices.HELP)
    parser.add_argument("--seed", type=cli.seed, default=42, help="random seed")
    args = parser.parse_args()
    if args.draw and args.no_display:
        parser.error("--draw opens a window: leave --no-display out")
    return args


if __name__ == "__main__":
    cli.run(main)  # calls main(), and shows errors in one line
