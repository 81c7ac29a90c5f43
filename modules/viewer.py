"""What predict.py shows: pictures of predictions, their montage, windows, and one to draw in."""

import math
import subprocess
import sys

import numpy as np

from modules.files import save_result
from modules.ink import to_kmnist
from modules.opencv import cv2
from modules.opencv import imutils

# colours in OpenCV's order: blue, green, red
GREEN, RED, WHITE, GREY = (110, 230, 110), (110, 110, 255), (240, 240, 240), (170, 170, 170)
CARD = (48, 44, 40)
# pixels; 392 makes every pixel of a 28×28 image a square of 14×14
IMAGE_WIDTH, MARGIN, TEXT_HEIGHT = 392, 14, 134
# so many pictures are enough to look at, one by one or in one
MAX_CARDS = 200
# pixels of the drawing window: where to draw, the width of a stroke, and what is beside it
CANVAS, PEN, PANEL = 560, 30, 320


def annotate(image, prediction, runner_up="", truth=None, given=None):
    """Return the image enlarged on a card, with what the network says under it.

    image: (28, 28) uint8; prediction and runner_up: lines of text; truth: the right label, "" where
    the prediction is right, and None where nobody knows; given: the user's picture, which is put
    beside the image that was made of it. Returns (540, 420, 3) uint8 in OpenCV's order of colours,
    or (540, 882, 3) with `given`.
    """
    picture = cv2.cvtColor(_enlarge(image, IMAGE_WIDTH), cv2.COLOR_GRAY2BGR)
    top, bottom, side = MARGIN, TEXT_HEIGHT, MARGIN
    if given is not None:
        # closer to each other than to the next pair
        gap = np.full((IMAGE_WIDTH, MARGIN, 3), CARD, np.uint8)
        picture, side = np.hstack([_frame(given), gap, picture]), 3 * MARGIN
    picture = cv2.copyMakeBorder(picture, top, bottom, side, side, cv2.BORDER_CONSTANT, value=CARD)

    color = WHITE if truth is None else RED if truth else GREEN
    left, image_bottom = side + 4, MARGIN + IMAGE_WIDTH
    write(picture, prediction, (left, image_bottom + 42), 40, color)
    # the truth, if the prediction is wrong, and the runner-up, if there is one, in two lines
    lines = [(f"true: {truth}", RED)] if truth else []
    for number, (line, color) in enumerate([*lines, (runner_up, GREY)]):
        write(picture, line, (left, image_bottom + 82 + 38 * number), 32, color)
    return picture


def write(picture, text, start, size, color):
    """Write a line into the picture, its left end on the point `start`, size in pixels."""
    cv2.putText(picture, text, start, color, cv2.FontFace("sans"), size=size, weight=500)


def _enlarge(image, width):
    return imutils.resize(image, width=width, inter=cv2.INTER_NEAREST)


def _frame(given):
    """Return the user's picture in the middle of a square card."""
    longest = "width" if given.shape[1] >= given.shape[0] else "height"
    small = imutils.resize(given, **{longest: IMAGE_WIDTH}, inter=cv2.INTER_AREA)
    frame = np.full((IMAGE_WIDTH, IMAGE_WIDTH, 3), CARD, np.uint8)
    height, width = small.shape[:2]
    top, left = (IMAGE_WIDTH - height) // 2, (IMAGE_WIDTH - width) // 2
    frame[top : top + height, left : left + width] = small
    return frame


def save_montage(path, pictures):
    """Save annotated pictures, at half their size, as the PNG file `path`.

    Raises SystemExit with one line if it cannot be written.
    """
    height, width = pictures[0].shape[:2]
    # of the numbers of columns that fit on a page, take the one that leaves fewest places empty,
    # and of those the favourite
    least, favourite, most = (4, 5, 6) if width < 600 else (2, 2, 3)
    choices = range(min(len(pictures), least), min(len(pictures), most) + 1)
    columns = min(choices, key=lambda number: (-len(pictures) % number, abs(number - favourite)))
    rows = math.ceil(len(pictures) / columns)
    # empty cards complete the last row
    blank = np.full_like(pictures[0], CARD)
    pictures = pictures + [blank] * (rows * columns - len(pictures))
    (montage,) = imutils.build_montages(pictures, (width // 2, height // 2), (columns, rows))
    save_result(path, cv2.imencode(".png", montage)[1].tobytes())


def ask_for_screen():
    """Start to find out whether a window can be opened, in a child process; see screen_found().

    OpenCV's Qt does not raise where it reaches no screen: it aborts the process that asked.
    """
    open_window = "import cv2; cv2.namedWindow('screen')"
    nowhere = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-c", open_window], stdout=nowhere, stderr=nowhere)


def screen_found(child):
    """Return whether the child that ask_for_screen() started, if any, could open a window."""
    try:
        return child is not None and child.wait(timeout=20) == 0
    except subprocess.TimeoutExpired:
        child.kill()
        return False


class Window:
    """A window on the screen, which the user closes with q, Esc or the mouse."""

    def __init__(self, title):
        self.title = title
        # the plain kind of window, without Qt's toolbar
        cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)

    def wait_for_key(self, picture):
        """Show the picture for a moment; return the key pressed, if any, or None at the end."""
        cv2.imshow(self.title, picture)
        # a waitKey() without limit would never learn that the window was closed
        key = cv2.waitKey(20)
        try:
            is_open = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) > 0
        # OpenCV's Qt knows no properties any more once its last window is closed
        except cv2.error:
            is_open = False
        if not is_open or key in (ord("q"), 27):
            return None
        return chr(key) if 0 <= key < 128 else "any" if key >= 0 else ""


def show(pictures):
    """Show one picture after the other, each until a key is pressed; q, Esc or closing ends it."""
    window = Window("Prediction")
    for picture in pictures:
        while (key := window.wait_for_key(picture)) == "":
            pass
        if key is None:
            return


def draw(describe, folder):
    """Let the user draw with the mouse, and show what the network makes of it after each stroke.

    describe: a function from an image, (28, 28) uint8, to the best guesses, pairs of a text and a
    probability. The key s saves the drawing in `folder`, c clears it.
    """
    window, pad = Window("Draw"), _Pad(describe)
    cv2.setMouseCallback(window.title, pad.on_mouse)
    while (key := window.wait_for_key(pad.picture())) is not None:
        if key == "c":
            pad.clear()
        if key == "s":
            number = 1
            while (path := folder / f"drawing-{number}.png").exists():
                number += 1
            save_result(path, cv2.imencode(".png", pad.canvas)[1].tobytes())
            print(f"[INFO] saved {path}")


class _Pad:
    """The canvas to draw on, and beside it what the network sees and says."""

    def __init__(self, describe):
        self.describe = describe
        self.last_point = None
        self.clear()

    def clear(self):
        self.canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        self.image, self.guesses, self.trouble = None, [], ""

    def on_mouse(self, event, x, y, flags, _):
        pressed = flags & cv2.EVENT_FLAG_LBUTTON or event == cv2.EVENT_LBUTTONDOWN
        if pressed and event != cv2.EVENT_LBUTTONUP:
            cv2.line(self.canvas, self.last_point or (x, y), (x, y), 255, PEN, cv2.LINE_AA)
            self.last_point = x, y
        elif self.last_point:
            # the stroke is done, or the button was let go outside the window
            self.last_point = None
            self.guess()

    def guess(self):
        self.guesses, self.trouble = [], ""
        try:
            self.image = to_kmnist(self.canvas)
            self.guesses = self.describe(self.image)
        except ValueError as error:
            self.trouble = str(error)

    def picture(self):
        """Return the window's content, (560, 880, 3) uint8."""
        panel = np.full((CANVAS, PANEL, 3), CARD, np.uint8)
        if self.image is not None:
            seen = _enlarge(self.image, 196)
            panel[20 : 20 + 196, 20 : 20 + 196] = seen[..., None]
        for number, (text, probability) in enumerate(self.guesses):
            top = 240 + 80 * number
            color = GREEN if number == 0 else GREY
            write(panel, text, (20, top + 30), 32, color)
            length = round((PANEL - 40) * probability)
            cv2.rectangle(panel, (20, top + 42), (20 + length, top + 56), color, cv2.FILLED)
        write(panel, self.trouble, (20, 270), 18, RED)
        write(panel, "c clear   s save   q quit", (20, CANVAS - 24), 22, GREY)
        if not self.canvas.any():
            write(panel, "draw on the black", (20, 60), 28, WHITE)
        return np.hstack([cv2.cvtColor(self.canvas, cv2.COLOR_GRAY2BGR), panel])
