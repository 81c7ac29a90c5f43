"""Cards with predictions, their montage, windows to show and to draw: nothing about learning."""

import math
import os
import subprocess
import sys
from contextlib import suppress
from itertools import count

import numpy as np

from modules import cli

try:
    import cv2
    import imutils

    from modules.printed import FONT
except ImportError as error:
    cli.exit_without_library(error)

from modules.preprocess import center
from modules.preprocess import resize
from modules.preprocess import to_kmnist

# colours in OpenCV's order: blue, green, red
GREEN, RED, WHITE, GREY = (110, 230, 110), (110, 110, 255), (240, 240, 240), (170, 170, 170)
CARD = (48, 44, 40)
# pixels: 392 makes every pixel of a 28×28 image a square of 14×14
IMAGE, MARGIN, TEXT = 392, 14, 134
# more cards are too many to look at, and take too much memory
MAX_CARDS = 200
# pixels of the window to draw in: where to draw, the width of a stroke, and what is beside it
CANVAS, PEN, PANEL = 560, 30, 320


def annotate(image, prediction, second, truth=None, picture=None):
    """Return a card: the image enlarged, and the prediction under it.

    image: (28, 28) uint8; prediction and second: lines of text; truth: the right class if the
    prediction is wrong, "" if it is right, None if nobody knows; picture: the user's own, (H, W, 3)
    uint8, BGR, which goes beside the image. Returns (540, 420, 3) uint8, BGR, or (540, 882, 3)
    with `picture`.
    """
    shown, side = cv2.cvtColor(enlarge(image, IMAGE), cv2.COLOR_GRAY2BGR), MARGIN
    if picture is not None:
        gap = np.full((IMAGE, MARGIN, 3), CARD, np.uint8)
        shown = np.hstack([center(resize(picture, IMAGE), IMAGE, CARD), gap, shown])
        side = 3 * MARGIN
    borders = MARGIN, TEXT, side, side
    card = cv2.copyMakeBorder(shown, *borders, cv2.BORDER_CONSTANT, value=CARD)

    color = WHITE if truth is None else RED if truth else GREEN
    lines = [(prediction, 40, color), (second, 32, GREY)]
    if truth:
        lines.insert(1, (f"true: {truth}", 32, RED))
    for number, (text, size, color) in enumerate(lines):
        write(card, text, (side + 4, MARGIN + IMAGE + 42 + 39 * number), size, color)
    return card


def enlarge(image, width):
    return imutils.resize(image, width=width, inter=cv2.INTER_NEAREST)


def write(card, text, start, size, color):
    """Write a line of text, its left end on the point `start`, size in pixels."""
    cv2.putText(card, text, start, color, FONT, size=size)


def save_montage(path, cards):
    """Save the cards, at half their size, in rows as one PNG file. Raises OSError."""
    height, width = cards[0].shape[:2]
    rows = math.ceil(len(cards) / (5 if width < 600 else 3))
    columns = math.ceil(len(cards) / rows)
    # empty cards complete the last row
    cards = cards + [np.full_like(cards[0], CARD)] * (rows * columns - len(cards))
    (montage,) = imutils.build_montages(cards, (width // 2, height // 2), (columns, rows))
    path.write_bytes(cv2.imencode(".png", montage)[1])


def has_screen():
    """Return whether a window can be opened.

    A child process tries it: where OpenCV reaches no screen, it does not raise but aborts.
    """
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('screen')"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def open_window(title):
    # keep Qt from warning about fonts, which are not needed, and from adding a toolbar
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
    cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)


def wait_for_key(title, picture):
    """Show the picture for a moment; return the key pressed, or "" if there was none.

    Esc and closing the window return "q".
    """
    cv2.imshow(title, picture)
    # waitKey() without a limit would wait for ever once the window is closed
    key = cv2.waitKey(20)
    is_open = False
    # asking for a window that is closed may raise
    with suppress(cv2.error):
        is_open = cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    if key == 27 or not is_open:
        return "q"
    return chr(key) if key >= 0 else ""


def show(cards):
    """Show one card after the other where there is a screen, and say so where there is none."""
    if not has_screen():
        print("[INFO] no screen can be reached: open the montage to see the predictions")
        return
    print("[INFO] press any key in the window for the next prediction, q to quit...")
    open_window("Prediction")
    for card in cards:
        while not (key := wait_for_key("Prediction", card)):
            pass
        if key == "q":
            return


def draw(classify, folder):
    """Let the user draw with the mouse; show and print the best classes after every stroke.

    classify: a function from an image, (28, 28) uint8, to pairs of a name and a probability.
    The key s saves the drawing in `folder`, c clears it, q quits.
    """
    canvas, last_point = np.zeros((CANVAS, CANVAS), np.uint8), None
    panel = make_panel("draw on the black")

    def on_mouse(event, x, y, flags, _):
        nonlocal last_point, panel
        is_down = event == cv2.EVENT_LBUTTONDOWN or flags & cv2.EVENT_FLAG_LBUTTON
        if is_down and event != cv2.EVENT_LBUTTONUP:
            cv2.line(canvas, last_point or (x, y), (x, y), 255, PEN, cv2.LINE_AA)
            last_point = x, y
        elif last_point:
            # the stroke ends, even if the button was released outside the window
            last_point = None
            with suppress(ValueError):
                image = to_kmnist(canvas)
                best = [(f"{name} {100 * p:.1f} %", p) for name, p in classify(image)]
                print(f"[INFO] drawn: {', '.join(text for text, _ in best)}")
                panel = make_panel("", image, best)

    open_window("Draw")
    cv2.setMouseCallback("Draw", on_mouse)
    key = ""
    while key != "q":
        shown = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR)
        key = wait_for_key("Draw", np.hstack([shown, panel]))
        if key == "c":
            canvas[:] = 0
            panel = make_panel("draw on the black")
        if key == "s":
            paths = (folder / f"drawing-{number}.png" for number in count(1))
            path = next(path for path in paths if not path.exists())
            path.write_bytes(cv2.imencode(".png", canvas)[1])
            print(f"[INFO] saved {path}")


def make_panel(text, image=None, best=()):
    """Return what stands beside the canvas: the image that the network sees, the best classes."""
    panel = np.full((CANVAS, PANEL, 3), CARD, np.uint8)
    write(panel, text, (20, 60), 28, WHITE)
    if image is not None:
        panel[20:216, 20:216] = enlarge(image, 196)[..., np.newaxis]
    for number, (line, probability) in enumerate(best):
        top, color = 240 + 80 * number, GREY if number else GREEN
        write(panel, line, (20, top + 30), 32, color)
        end = 20 + round((PANEL - 40) * probability)
        cv2.rectangle(panel, (20, top + 42), (end, top + 56), color, cv2.FILLED)
    write(panel, "c clear   s save   q quit", (20, CANVAS - 24), 22, GREY)
    return panel
