"""Cards (an image and its prediction), the montage of them, and the windows.

You can skip this module.
"""

import math
import os
import subprocess
import sys
from contextlib import suppress
from itertools import count

import numpy as np
from PIL import Image
from PIL import ImageOps

from modules import cli

# keep Qt, which draws OpenCV's windows on Linux, from warning about fonts that are not needed
os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
try:
    import cv2
    import imutils

    from modules.preprocess import to_kmnist
    from modules.printed import FONT
except ImportError as error:
    cli.exit_without_library(error)

# colors in OpenCV's order: blue, green, red
GREEN, RED, WHITE, GRAY = (110, 230, 110), (110, 110, 255), (240, 240, 240), (170, 170, 170)
BACKGROUND = (48, 44, 40)
# in pixels: images of 28×28 are enlarged 14 times, with a margin, and text below
IMAGE, MARGIN, TEXT = 392, 14, 134
# the canvas to draw on, as high as a card, and the width of a stroke, in pixels
CANVAS, PEN = MARGIN + IMAGE + TEXT, 30
# more cards are too many to view, and take too much memory
MAX_CARDS = 200


def annotate(image, lines, picture=None):
    """Return a card: the image enlarged, and lines of text below it.

    image: (28, 28) uint8; lines: up to three pairs of a text and a color; picture: the user's own,
    a Pillow image, to show beside it. Returns (540, 420, 3) uint8, BGR, or (540, 882, 3) with
    `picture`.
    """
    shown = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    shown, side = imutils.resize(shown, width=IMAGE, inter=cv2.INTER_NEAREST), MARGIN
    if picture is not None:
        picture = np.asarray(ImageOps.pad(picture, (IMAGE, IMAGE), color=BACKGROUND[::-1]))
        gap = np.full((IMAGE, MARGIN, 3), BACKGROUND, np.uint8)
        shown, side = np.hstack([picture[..., ::-1], gap, shown]), 3 * MARGIN
    borders = MARGIN, TEXT, side, side
    card = cv2.copyMakeBorder(shown, *borders, cv2.BORDER_CONSTANT, value=BACKGROUND)
    for number, (text, color) in enumerate(lines):
        start = side + 4, MARGIN + IMAGE + 42 + 39 * number
        cv2.putText(card, text, start, color, FONT, size=32 if number else 40)
    return card


def save_montage(path, cards):
    """Save the cards, at half their size, in rows as one PNG file. Raises OSError."""
    height, width = cards[0].shape[:2]
    rows = math.ceil(len(cards) / (5 if width < 600 else 3))
    columns = math.ceil(len(cards) / rows)
    # empty cards complete the last row
    cards = cards + [np.full_like(cards[0], BACKGROUND)] * (rows * columns - len(cards))
    (montage,) = imutils.build_montages(cards, (width // 2, height // 2), (columns, rows))
    Image.fromarray(montage[..., ::-1]).save(path)


def has_screen():
    """Return whether a window can be opened.

    Tried in a child process: without a screen, OpenCV aborts instead of raising an error.
    """
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('screen')"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def wait_for_key(title, picture):
    """Show the picture for a moment; return the key pressed, or "" if there was none.

    Esc and closing the window return "q".
    """
    cv2.imshow(title, picture)
    # waitKey() without a limit would wait for ever once the window is closed
    key = cv2.waitKey(20)
    is_open = False
    # the query may raise an error if the window is closed
    with suppress(cv2.error):
        is_open = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    if key == 27 or not is_open:
        return "q"
    return chr(key).lower() if key >= 0 else ""


def show(cards):
    """Show one card after the other where there is a screen, and say so where there is none."""
    if not has_screen():
        print("[INFO] no screen found: open the montage to see the predictions")
        return
    print("[INFO] press any key in the window for the next prediction, q to quit...")
    # without Qt's toolbar
    cv2.namedWindow("Prediction", cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
    for card in cards:
        while not (key := wait_for_key("Prediction", card)):
            pass
        if key == "q":
            return


def draw(classify, folder):
    """Let the user draw with the mouse; show and print the prediction after every stroke.

    classify: a function from an image, (28, 28) uint8, to two texts, the best and the second class.
    The key s saves the drawing in `folder`, c clears it, q quits.
    """
    canvas, last_point = np.zeros((CANVAS, CANVAS), np.uint8), None
    keys = "c clear  s save  q quit", GRAY
    card = empty = annotate(canvas[:28, :28], [("draw on the left", WHITE), ("", GRAY), keys])

    def on_mouse(event, x, y, flags, _):
        nonlocal last_point, card
        is_down = event == cv2.EVENT_LBUTTONDOWN or flags & cv2.EVENT_FLAG_LBUTTON
        if is_down and event != cv2.EVENT_LBUTTONUP:
            cv2.line(canvas, last_point or (x, y), (x, y), 255, PEN, cv2.LINE_AA)
            last_point = x, y
        elif last_point:
            # the stroke ends, even if the button was released outside the window
            last_point = None
            with suppress(ValueError):
                # a margin: what reaches the edges of a picture is not taken for the character
                image = to_kmnist(Image.fromarray(np.pad(canvas, MARGIN)))
                prediction, second = classify(image)
                print(f"[INFO] predicted label: {prediction} {second}".rstrip())
                card = annotate(image, [(prediction, WHITE), (second, GRAY), keys])

    cv2.namedWindow("Draw", cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
    cv2.setMouseCallback("Draw", on_mouse)
    key = ""
    while key != "q":
        shown = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR)
        key = wait_for_key("Draw", np.hstack([shown, card]))
        if key == "c":
            canvas[:], card = 0, empty
        if key == "s":
            paths = (folder / f"drawing-{number}.png" for number in count(1))
            path = next(path for path in paths if not path.exists())
            Image.fromarray(np.pad(canvas, MARGIN)).save(path)
            print(f"[INFO] saved {path}")
