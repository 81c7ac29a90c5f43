"""From a user's own picture to an image like KMNIST's.

These are 28×28 pixels, white ink on black, and the character just fits in. A reader of the tutorial
may skip this module.
"""

import warnings

import cv2
import numpy as np
from PIL import Image
from PIL import ImageOps

# pixels: the side of an image, the width of KMNIST's strokes, the longest side to search for ink
SIDE, STROKE, LONGEST = 28, 2, 400
# ink differs from the paper by more than this, of 255
CONTRAST = 20
# the files that are taken for pictures if --image names their folder
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# refuse pictures of more than 89 million pixels, for which Pillow only warns
warnings.simplefilter("error", Image.DecompressionBombWarning)


def find_pictures(paths):
    """Return the files among `paths`, and the pictures in the folders among them, sorted."""
    files = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        files += [file for file in inside if file.suffix.lower() in SUFFIXES] or [path]
    return files


def read_picture(path):
    """Return the picture in a file, upright, white where it is transparent: an RGB Pillow image.

    Raises ValueError if the file is not a picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    # Pillow reports a damaged file in many ways
    except Exception as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ValueError(f"cannot be read as a picture ({reason})") from error
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def to_kmnist(picture):
    """Return the character in a picture as an image like KMNIST's, (28, 28) uint8.

    picture: a Pillow image, dark on light or light on dark, in even or uneven light. Raises
    ValueError if there is no character in it.
    """
    grey = picture.convert("L")
    grey.thumbnail((LONGEST, LONGEST))
    grey = np.asarray(grey)

    # the paper is the median over a wide neighbourhood, mirrored at the edges; ink is what differs
    # from it, darker or lighter, whichever is more
    half = min(grey.shape) // 4
    mirrored = cv2.copyMakeBorder(grey, half, half, half, half, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(mirrored, 2 * half + 1)[half:, half:][: len(grey), : len(grey[0])]
    ink = cv2.GaussianBlur(grey - paper.astype(np.float32), (0, 0), 1)
    if (ink < -CONTRAST).sum() > (ink > CONTRAST).sum():
        ink = -ink
    if ink.max() <= CONTRAST:
        raise ValueError("nothing stands out from its background")
    _, mask = cv2.threshold(ink.clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)

    # leave out specks and, in a photograph, what reaches its edges: a shadow, or the table
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask)
    left, top, width, height, area = stats[1:].T
    is_inside = (left > 0) & (left + width < len(grey[0])) & (top > 0) & (top + height < len(grey))
    is_inside &= area > grey.size / 2000
    if min(grey.shape) > 100 and is_inside.any():
        area = area * is_inside
    large = 1 + np.flatnonzero(area > 0.03 * area.max())
    mask = 255 * np.isin(components, large).astype(np.uint8)

    # thicken the strokes of a fine pen, which would fade at 28×28; across a stroke, the mean
    # distance from its edges is a quarter of its width
    x, y, width, height = cv2.boundingRect(mask)
    stroke = 4 * cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0].mean()
    missing = max(0, round(STROKE / SIDE * max(width, height) - stroke))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    character = Image.fromarray(cv2.dilate(mask, pen)[y : y + height, x : x + width])
    return np.array(ImageOps.pad(character, (SIDE, SIDE)))
