"""Pictures of predictions: annotated images, windows on the screen, and a montage of them all."""

import math
import subprocess
import sys

import numpy as np

from modules.files import save_result
from modules.opencv import cv2
from modules.opencv import imutils

WINDOW_NAME = "Prediction"
# colours in OpenCV's order: blue, green, red
GREEN, RED, CARD = (110, 230, 110), (110, 110, 255), (48, 44, 40)
# pixels; 392 makes every pixel of a 28×28 image a square of 14×14
IMAGE_WIDTH, MARGIN, LINE_HEIGHT = 392, 14, 52


def annotate(image, prediction, truth, correct):
    """Return the image enlarged on a card, the prediction under it: green when right, else red.

    image: (28, 28) uint8; prediction and truth: lines of text, truth shown only where the
    prediction is wrong. Returns (524, 420, 3) uint8 in OpenCV's order of colours.
    """
    picture = imutils.resize(np.dstack([image] * 3), width=IMAGE_WIDTH, inter=cv2.INTER_NEAREST)
    top, bottom = MARGIN, MARGIN + 2 * LINE_HEIGHT
    picture = cv2.copyMakeBorder(
        picture, top, bottom, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=CARD
    )

    lines = [prediction] if correct else [prediction, f"true: {truth}"]
    for number, line in enumerate(lines, start=1):
        start = (MARGIN + 4, top + IMAGE_WIDTH + number * LINE_HEIGHT - 4)
        color = GREEN if correct else RED
        cv2.putText(picture, line, start, color, cv2.FontFace("sans"), size=40, weight=500)
    return picture


def save_montage(path, pictures):
    """Save annotated pictures, at half their size and five to a row, as the PNG file `path`.

    Raises SystemExit with one line if it cannot be written.
    """
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), 5)
    rows = math.ceil(len(pictures) / columns)
    # empty cards complete the last row
    blank = np.full_like(pictures[0], CARD)
    pictures = pictures + [blank] * (rows * columns - len(pictures))
    (montage,) = imutils.build_montages(pictures, (width // 2, height // 2), (columns, rows))
    save_result(path, cv2.imencode(".png", montage)[1].tobytes())


def screen_found():
    """Return whether a window can be opened, asked in a child process.

    OpenCV's Qt does not raise where it reaches no screen: it aborts the process that asked.
    """
    open_window = "import cv2; cv2.namedWindow('screen')"
    try:
        child = subprocess.run([sys.executable, "-c", open_window], capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0


def show(pictures):
    """Show one picture after the other, each until a key is pressed; closing the window ends it."""
    # the plain kind of window, without Qt's toolbar
    cv2.namedWindow(WINDOW_NAME, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
    for picture in pictures:
        cv2.imshow(WINDOW_NAME, picture)
        # a waitKey() without limit would never learn that the window was closed
        while cv2.waitKey(50) < 0:
            if not _window_open():
                return


def _window_open():
    try:
        return cv2.getWindowProperty(WINDOW_NAME, cv2.WND_PROP_VISIBLE) > 0
    # OpenCV's Qt knows no properties any more once its last window is closed
    except cv2.error:
        return False
