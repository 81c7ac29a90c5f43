"""Cards, which are enlarged images with their prediction below, and the montage of them."""

from modules.messages import drawn_names, explain_names
from modules.strokes import STROKES, draw_character

import math

import cv2
import imutils
import numpy as np
from PIL import Image

# colors in OpenCV's order: blue, green, red
GREEN, RED, WHITE = (110, 230, 110), (110, 110, 255), (240, 240, 240)
BACKGROUND = (48, 44, 40)
# pixels: images of 28×28 are enlarged 14 times, with a margin, and text below
IMAGE_SIDE, MARGIN, TEXT_HEIGHT = 392, 14, 100
TEXT_START, DETAILS_START, FONT = (MARGIN, 452), (MARGIN, 494), cv2.FONT_HERSHEY_DUPLEX
# more cards are too many to view, and take too much memory
MAX_CARDS = 200


def best_classes(probabilities, names):
    """Return the predicted class with its probability and, if at least 10%, the second: texts.

    probabilities: (classes,), of one image; names: of the classes.
    """
    shares, labels = probabilities.topk(2)
    texts = [f"{names[label]} {share:.1%}" for share, label in zip(shares, labels)]
    return texts if shares[1] >= 0.1 else texts[:1]


def describe(probabilities, classes):
    """Return the prediction as text: one or two classes with their probabilities."""
    return " or ".join(best_classes(probabilities, classes))


def make_card(image):
    """Return an image, (height, width, 3) uint8, with a margin, and space for text below it."""
    borders = MARGIN, TEXT_HEIGHT, MARGIN, MARGIN
    return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=BACKGROUND)


def ascii_names(classes):
    """Return the names as cv2.putText() can write them, which is in ASCII."""
    return drawn_names(classes, str.isascii)


def font_scale(text, scale=1.5):
    """Return `scale`, or a smaller one with which cv2.putText() writes a text that fits."""
    (width, _), _ = cv2.getTextSize(text, FONT, scale, 2)
    return scale * min(1, (IMAGE_SIDE - 80) / max(1, width))


def add_details(card, probabilities, classes, color, label=None):
    """Write a second line on a card, and for KMNIST's classes draw the modern characters.

    The line is the true class, if that is known (its label) and another than the predicted one;
    otherwise the second most probable class, if its probability is at least 10%.
    """
    predicted, names = int(probabilities.argmax()), ascii_names(classes)
    _, *second = best_classes(probabilities, names)
    is_wrong = label is not None and label != predicted
    text = f"true: {names[label]}" if is_wrong else " ".join(["or", *second] if second else [])
    scale = font_scale(text, 1.2)
    cv2.putText(card, text, DETAILS_START, FONT, scale, color, 2, cv2.LINE_AA)
    # a class "o" of your own may be a Latin letter
    if classes == list(STROKES):
        right = card.shape[1] - MARGIN
        draw_character(card, classes[predicted], right - 70, 414, size=70, color=color, width=4)
        if is_wrong:
            (width, _), _ = cv2.getTextSize(text, FONT, scale, 2)
            draw_character(card, classes[label], width + 28, 458, size=44, color=color, width=3)


def save_montage(path, cards, classes):
    """Save the cards, at half their size, in rows as one PNG file. Raises OSError."""
    if not cards:
        print("[INFO] nothing to show")
        return
    if len(cards) == MAX_CARDS:
        print(f"[INFO] at most {MAX_CARDS} images are shown")
    height, width = cards[0].shape[:2]
    rows = math.ceil(len(cards) / (5 if width < 600 else 3))
    columns = math.ceil(len(cards) / rows)
    # complete the last row
    cards = cards + [np.full_like(cards[0], BACKGROUND)] * (rows * columns - len(cards))
    (montage,) = imutils.build_montages(cards, (width // 2, height // 2), (columns, rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(montage[..., ::-1]).save(path)
    print(f"[INFO] saved {path}")
    explain_names(classes, ascii_names(classes))
