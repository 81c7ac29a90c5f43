"""Windows of OpenCV: whether one can be opened, the keys pressed in it, and the drawing pad."""

from modules.messages import UserError

import subprocess
import sys
from contextlib import contextmanager, suppress
from itertools import count

import cv2
import numpy as np
from PIL import Image

# pixels: the side of the canvas to draw on, its margin in a drawing, and the width of a line
CANVAS_SIDE, MARGIN, LINE_WIDTH = 506, 14, 30
NO_WINDOW = "no window can be opened (no screen, headless OpenCV, or QT_QPA_PLATFORM=wayland)"


def can_open(instead=None):
    """Return whether a window can be opened; print its keys, or the picture to open instead."""
    # tried in a child process: without a screen, OpenCV aborts instead of raising an error
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('screen')"]
    is_possible = False
    with suppress(subprocess.TimeoutExpired):
        is_possible = subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    if not is_possible and instead:
        print(f"[INFO] {NO_WINDOW}: open {instead} instead")
    elif instead:
        print("[INFO] press any key in the window for the next prediction, q or Esc to quit...")
    return is_possible


@contextmanager
def window(title):
    """Open a window without Qt's toolbar, and close it at the end of the block."""
    cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
    try:
        yield
    finally:
        # in a notebook, the end of the program does not close it
        cv2.destroyAllWindows()
        cv2.waitKey(1)


def look_for_key(title):
    """Return the key pressed within 20 ms, in lower case, or "" if there was none.

    Esc and closing the window return "q".
    """
    # waitKey() would wait forever once the window is closed, and gives only 8 bits of a key, so
    # that an arrow looks like a letter; above 16 bits are the modifiers that are held down
    key = cv2.waitKeyEx(20)
    code = key & 0xFFFF
    # on a Mac, a window that is minimized is not visible, and none can be closed with the mouse
    is_open = sys.platform == "darwin"
    # the query may raise an error if the window is closed
    with suppress(cv2.error):
        is_open = is_open or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) > 0
    if code == 27 or not is_open:
        return "q"
    # Shift, Ctrl, Alt and their like, by themselves, are no keys
    return "" if key < 0 or 0xFFE1 <= code <= 0xFFEE else chr(code).lower()


def wait_for_key(title):
    """Wait for a key in a window, and return it as look_for_key() does."""
    while not (key := look_for_key(title)):
        pass
    return key


def draw(annotate, empty_card, folder):
    """Let the user draw with the mouse; show the drawing and, after every stroke, its card.

    annotate: a function from a drawing, a Pillow image, to a card, as high as the canvas; it may
    raise UserError. The key s saves the drawing in `folder`, c clears it, q quits. Raises UserError
    if no window can be opened.
    """
    if not can_open():
        raise UserError(f"{NO_WINDOW}: use --image instead of --draw")
    canvas = np.zeros((CANVAS_SIDE, CANVAS_SIDE), np.uint8)
    annotated, card = canvas.copy(), empty_card
    last_point = None

    def on_mouse(event, x, y, flags, _):
        nonlocal last_point
        if event == cv2.EVENT_LBUTTONUP or not flags & cv2.EVENT_FLAG_LBUTTON:
            # also if the button was released outside the window
            last_point = None
        else:
            cv2.line(canvas, last_point or (x, y), (x, y), 255, LINE_WIDTH, cv2.LINE_AA)
            last_point = x, y

    print("[INFO] draw in the window: c clears, s saves, q or Esc quits...")
    key = ""
    with window("Draw"):
        cv2.setMouseCallback("Draw", on_mouse)
        while key != "q":
            cv2.imshow("Draw", np.hstack([cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), card]))
            key = look_for_key("Draw")
            drawing = Image.fromarray(np.pad(canvas, MARGIN))
            if key == "c":
                canvas[:], annotated[:], card = 0, 0, empty_card
            if key == "s":
                save_drawing(drawing, folder)
            if last_point is None and (canvas != annotated).any():
                annotated = canvas.copy()
                # a dot may be too small for a character, and two characters are too many
                card = empty_card
                with suppress(UserError):
                    card = annotate(drawing)


def save_drawing(drawing, folder):
    """Save a drawing as the first of drawing-1.png, drawing-2.png, ... that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"drawing-{number}.png" for number in count(1))
    path = next(path for path in paths if not path.exists())
    drawing.save(path)
    print(f"[INFO] saved {path}")
