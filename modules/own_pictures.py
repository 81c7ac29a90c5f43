"""Your own pictures, and drawings: from a picture to its prediction, and what is shown of it."""

from modules import cards, windows
from modules.datasets import to_input
from modules.messages import UserError
from modules.pictures import find_pictures, read_picture
from modules.predictions import predict as predict_images
from modules.preprocess import find_character

import sys

import cv2
import imutils
import numpy as np
from PIL import ImageOps

# the color of the box around a character, in OpenCV's order: blue, green, red
MARK = (0, 176, 255)


def predict(model, checkpoint, args):
    """Predict the class of each picture of --image, and print it.

    Returns the cards of the pictures, and how many have no prediction. Raises UserError, OSError.
    """
    shown, num_failed = [], 0
    paths = find_pictures(args.image, args.output)
    for path in paths:
        try:
            picture = read_picture(path)
            image, probabilities, box = predict_picture(picture, model, checkpoint)
        except UserError as error:
            print(f"[ERROR] {path}: {error}", file=sys.stderr)
            num_failed += 1
            continue
        prediction = cards.describe(probabilities, checkpoint["classes"])
        print(f"[INFO] {path}: predicted label: {prediction}")
        if len(shown) < cards.MAX_CARDS:
            shown.append(annotate(image, probabilities, checkpoint["classes"], picture, box))
    if num_failed and len(paths) > 1:
        text = f"[ERROR] {num_failed} of {len(paths)} pictures have no prediction: see above"
        print(text, file=sys.stderr)
    return shown, num_failed


def draw(model, checkpoint, args):
    """Let the user draw with the mouse, and predict the class after every stroke.

    Raises UserError if no window can be opened.
    """

    def annotate_drawing(drawing):
        image, probabilities, _ = predict_picture(drawing, model, checkpoint)
        print(f"[INFO] predicted label: {cards.describe(probabilities, checkpoint['classes'])}")
        return annotate(image, probabilities, checkpoint["classes"])

    empty_card = cards.make_card(np.zeros((cards.IMAGE_SIDE, cards.IMAGE_SIDE, 3), np.uint8))
    lines = {cards.TEXT_START: "draw on the left", cards.DETAILS_START: "c clear, s save, q quit"}
    for start, text in lines.items():
        cv2.putText(empty_card, text, start, cards.FONT, 0.95, cards.WHITE, 2, cv2.LINE_AA)
    windows.draw(annotate_drawing, empty_card, args.output.parent / "drawings")


def predict_picture(picture, model, checkpoint):
    """Find the character in a Pillow image, and predict its class.

    Returns the character, (28, 28) uint8; the probabilities, (classes,); and its box. Raises
    UserError if there is no character, or more than one. The network has to be in evaluation mode.
    """
    # with classes of your own, a picture of 28×28 pixels is used as it is, as in training; else,
    # it is inverted if its ink is dark
    own_classes = checkpoint["dataset"] == "pictures"
    image, box = find_character(picture, keep_28x28=own_classes)
    # a batch of one image
    (probabilities,) = predict_images(model, to_input(image[None]))
    return image, probabilities, box


def annotate(image, probabilities, classes, picture=None, box=None):
    """Return the card of an image, (28, 28) uint8, beside the picture that it is from.

    picture: a Pillow image; box: of the character in it, (left, top, right, bottom), in pixels.
    """
    shown = imutils.resize(np.dstack(3 * [image]), cards.IMAGE_SIDE, inter=cv2.INTER_NEAREST)
    if picture is not None:
        gap = np.full((len(shown), cards.MARGIN, 3), cards.BACKGROUND, np.uint8)
        shown = np.hstack([fit_picture(picture, box), gap, shown])
    card = cards.make_card(shown)
    # white: the true class is not known
    text, *_ = cards.best_classes(probabilities, cards.ascii_names(classes))
    scale = cards.font_scale(text)
    cv2.putText(card, text, cards.TEXT_START, cards.FONT, scale, cards.WHITE, 2, cv2.LINE_AA)
    cards.add_details(card, probabilities, classes, cards.WHITE)
    return card


def fit_picture(picture, box=None):
    """Return a Pillow image, (392, 392, 3) uint8, BGR, with a box drawn in it, if there is one."""
    # pad() enlarges or reduces the picture, and puts it in the middle
    size = cards.IMAGE_SIDE, cards.IMAGE_SIDE
    fitted = np.array(ImageOps.pad(picture, size, color=cards.BACKGROUND[::-1]))
    fitted = np.ascontiguousarray(fitted[..., ::-1])
    if box is not None:
        scale = cards.IMAGE_SIDE / max(picture.size)
        margin = (cards.IMAGE_SIDE - scale * np.array(picture.size)) / 2
        corners = margin + scale * np.reshape(box, (2, 2))
        start, end = corners.round().astype(int).tolist()
        cv2.rectangle(fitted, start, end, MARK, 2)
    return fitted
