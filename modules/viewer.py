"""Annotated images, the montage of them, the windows, and the drawing pad."""

from modules.messages import UserError
from modules.synthetic import STROKES, draw_character

import math
import subprocess
import sys
from contextlib import contextmanager, suppress
from itertools import count

import cv2
import imutils
import numpy as np
from PIL import Image, ImageOps

# colors in OpenCV's order: blue, green, red
GREEN, RED, WHITE = (110, 230, 110), (110, 110, 255), (240, 240, 240)
MARK = (0, 176, 255)
BACKGROUND = (48, 44, 40)
# in pixels: images of 28×28 are enlarged 14 times, with a margin, and text below
IMAGE_SIDE, MARGIN, TEXT_HEIGHT = 392, 14, 100
# the canvas to draw on, as high as an annotated image, and the width of a drawn line, in pixels
CANVAS_SIDE, LINE_WIDTH = MARGIN + IMAGE_SIDE + TEXT_HEIGHT, 30
# more annotated images are too many to view, and take too much memory
MAX_IMAGES = 200

# what to say where there is none
NO_WINDOW = "no window can be opened (no screen, headless OpenCV, or QT_QPA_PLATFORM=wayland)"


def best_classes(probabilities, classes):
    """Return the predicted class with its probability and, if at least 10%, the second: texts.

    probabilities: (classes,), one image's.
    """
    shares, labels = probabilities.topk(2)
    texts = [f"{classes[label]} {share:.1%}" for share, label in zip(shares, labels)]
    return texts if shares[1] >= 0.1 else texts[:1]


def describe(probabilities, classes):
    """Return the prediction as text: one or two classes with their probabilities."""
    return " or ".join(best_classes(probabilities, classes))


class Gallery:
    """Annotated images, of which the first MAX_IMAGES are kept, to be shown in the end.

    classes: their names.
    """

    def __init__(self, classes):
        self.classes = classes
        self.annotated, self.num_images = [], 0

    def add(self, image, probabilities, truth=None, picture=None, box=None):
        """Add an image with its prediction: the parameters are those of annotate()."""
        self.num_images += 1
        if self.num_images <= MAX_IMAGES:
            card = annotate(image, probabilities, self.classes, truth, picture, box)
            self.annotated.append(card)

    def save_and_show(self, path, no_display=False):
        """Save the images in a montage; show them in a window where there is a screen."""
        if not self.annotated:
            print("[INFO] nothing to show")
            return
        if self.num_images > MAX_IMAGES:
            print(f"[INFO] at most {MAX_IMAGES} images are shown")
        save_montage(path, self.annotated)
        print(f"[INFO] saved {path}")
        if not no_display and has_screen():
            show(self.annotated)
        elif not no_display:
            print(f"[INFO] {NO_WINDOW}: open {path} instead")


def annotate(image, probabilities, classes, truth=None, picture=None, box=None):
    """Return the image with its prediction below: green or red, or white if `truth` is not known.

    image: (1, 28, 28) float32 in [0, 1]; probabilities: (classes,); truth: the right label;
    picture, box: as for draw_card().
    """
    # OpenCV draws nothing but ASCII
    names = [name if name.isascii() else f"class {label}" for label, name in enumerate(classes)]
    prediction, *second = best_classes(probabilities, names)
    character, true_character = names[probabilities.argmax()], None
    color, lines = WHITE, [prediction, *(f"or {text}" for text in second)]
    if truth is not None and names[truth] == character:
        color = GREEN
    elif truth is not None:
        color, true_character = RED, names[truth]
        lines = [prediction, f"true: {true_character}"]
    # only KMNIST's classes have a modern character: a class "o" of yours may be a Latin letter
    if classes != list(STROKES):
        character = true_character = None
    pixels = (255 * image[0]).round().byte().numpy()
    return draw_card(pixels, character, lines, color, true_character, picture, box)


def draw_card(image, character, lines, color=WHITE, true_character=None, picture=None, box=None):
    """Return the image enlarged; below it, a modern character and two lines of text.

    image: (28, 28) uint8; character, true_character: KMNIST's classes, whose modern characters go
    before the lines and after the second one; picture: the user's own, a Pillow image, to show
    beside it, and the box (left, top, right, bottom) of the character in it, in pixels. Returns
    (506, 420, 3) uint8, BGR; it is wider with `picture`.
    """
    shown = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    shown = imutils.resize(shown, width=IMAGE_SIDE, inter=cv2.INTER_NEAREST)
    if picture is not None:
        gap = np.full((IMAGE_SIDE, MARGIN, 3), BACKGROUND, np.uint8)
        shown = np.hstack([fit_picture(picture, box), gap, shown])
    borders = MARGIN, TEXT_HEIGHT, MARGIN, MARGIN
    annotated = cv2.copyMakeBorder(shown, *borders, cv2.BORDER_CONSTANT, value=BACKGROUND)
    left, top = MARGIN, MARGIN + IMAGE_SIDE
    if character:
        draw_character(annotated, character, left, top + 16, 68, color, width=4)
        left += 86
    for y, scale, text in zip((46, 90), (1.5, 1.2), lines):
        # a long name is written smaller
        (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 2)
        scale *= min(1, (annotated.shape[1] - MARGIN - left) / max(1, width))
        start = left, top + y
        cv2.putText(annotated, text, start, cv2.FONT_HERSHEY_DUPLEX, scale, color, 2, cv2.LINE_AA)
    if true_character:
        right = left + width + MARGIN
        draw_character(annotated, true_character, right, top + 54, 44, color, width=3)
    return annotated


def fit_picture(picture, box):
    """Return a Pillow image, (392, 392, 3) uint8, BGR, with a box drawn in it, if there is one."""
    # pad() enlarges or reduces the picture, and puts it in the middle
    fitted = np.array(ImageOps.pad(picture, (IMAGE_SIDE, IMAGE_SIDE), color=BACKGROUND[::-1]))
    fitted = np.ascontiguousarray(fitted[..., ::-1])
    if box is not None:
        scale = IMAGE_SIDE / max(picture.size)
        margin = (IMAGE_SIDE - scale * np.array(picture.size)) / 2
        corners = margin + scale * np.reshape(box, (2, 2))
        start, end = corners.round().astype(int).tolist()
        cv2.rectangle(fitted, start, end, MARK, 2)
    return fitted


def save_montage(path, images):
    """Save the annotated images, at half their size, in rows as one PNG file. Raises OSError."""
    height, width = images[0].shape[:2]
    rows = math.ceil(len(images) / (5 if width < 600 else 3))
    columns = math.ceil(len(images) / rows)
    # complete the last row
    images = images + [np.full_like(images[0], BACKGROUND)] * (rows * columns - len(images))
    (montage,) = imutils.build_montages(images, (width // 2, height // 2), (columns, rows))
    path.parent.mkdir(parents=True, exist_ok=True)
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


def wait_for_key(title, picture):
    """Show the picture for a moment; return the key pressed, or "" if there was none.

    Esc and closing the window return "q".
    """
    cv2.imshow(title, picture)
    # waitKey() would wait for ever once the window is closed, and gives only 8 bits of a key, so
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


def show(images):
    """Show the annotated images one by one."""
    print("[INFO] press any key in the window for the next prediction, q or Esc to quit...")
    with window("Prediction"):
        for image in images:
            key = ""
            while not key:
                key = wait_for_key("Prediction", image)
            if key == "q":
                break


def draw(annotate_drawing, folder):
    """Let the user draw with the mouse; show the annotated drawing after every stroke.

    annotate_drawing: a function from a drawing, a Pillow image, to an annotated image; it may raise
    UserError. The key s saves the drawing in `folder`, c clears it, q quits. Raises UserError if no
    window can be opened.
    """
    if not has_screen():
        raise UserError(f"{NO_WINDOW}: use --image instead of --draw")
    canvas = np.zeros((CANVAS_SIDE, CANVAS_SIDE), np.uint8)
    annotated_canvas = canvas.copy()
    help_text = ["draw on the left", "c clear, s save, q quit"]
    empty = annotated = draw_card(canvas[:28, :28], "", help_text)
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
            shown = np.hstack([cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), annotated])
            key = wait_for_key("Draw", shown)
            drawing = Image.fromarray(np.pad(canvas, MARGIN))
            if key == "c":
                canvas[:], annotated_canvas[:], annotated = 0, 0, empty
            if key == "s":
                save_drawing(drawing, folder)
            if last_point is None and (canvas != annotated_canvas).any():
                annotated_canvas = canvas.copy()
                # a dot may be too small for a character
                with suppress(UserError):
                    annotated = annotate_drawing(drawing)


def save_drawing(drawing, folder):
    """Save a drawing as the first of drawing-1.png, drawing-2.png, ... that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / f"drawing-{number}.png" for number in count(1))
    path = next(path for path in paths if not path.exists())
    drawing.save(path)
    print(f"[INFO] saved {path}")
