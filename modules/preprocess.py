"""Convert a user's picture to an image like KMNIST's.

That is 28×28 pixels, white ink on black, with the character filling the image. You can skip this
module.
"""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL import ImageOps

# pixels: the side of an image, the width of KMNIST's strokes, the longest side to search for ink
SIDE, STROKE, LONGEST = 28, 2, 400
# the least difference between ink and paper, of 255
CONTRAST = 20
# the types of files that --image reads from a folder
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# refuse pictures of more than 89 million pixels, for which Pillow only warns
warnings.simplefilter("error", Image.DecompressionBombWarning)


def find_pictures(paths):
    """Return `paths`, with each folder replaced by the pictures in it, sorted."""
    files = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        files += [file for file in inside if file.suffix.lower() in SUFFIXES] or [path]
    return files


def read_picture(path):
    """Return the picture in a file, upright, white where it is transparent: an RGB Pillow image.

    Raises ValueError if the file is not a picture.
    """
    if Path(path).is_dir():
        raise ValueError("no picture in this folder")
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode == "I;16":
                # convert() would clip 16 bits instead of scaling them
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = picture.convert("RGBA")
    # Pillow raises many kinds of errors for a damaged file
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot be read as a picture ({reason})") from error
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def to_kmnist(picture):
    """Return the character in a picture as an image like KMNIST's, (28, 28) uint8.

    picture: a Pillow image, dark on light or light on dark, in even or uneven light. Raises
    ValueError if there is no character in it.
    """
    gray = picture.convert("L")
    gray.thumbnail((LONGEST, LONGEST))
    gray = np.asarray(gray)

    # the paper is a wide median filter, mirrored at the edges; ink is what is darker, or lighter,
    # than that, whichever has more pixels
    half = min(gray.shape) // 4
    mirrored = cv2.copyMakeBorder(gray, half, half, half, half, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(mirrored, 2 * half + 1)[half:, half:][: len(gray), : len(gray[0])]
    ink = cv2.GaussianBlur(gray - paper.astype(np.float32), (0, 0), 1)
    if (ink < -CONTRAST).sum() > (ink > CONTRAST).sum():
        ink = -ink
    if ink.max() <= CONTRAST:
        raise ValueError("nothing stands out from its background")
    _, mask = cv2.threshold(ink.clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)

    # leave out specks and, in a photograph, what reaches its edges: a shadow, or the table
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask)
    left, top, width, height, area = stats[1:].T
    is_inside = (left > 0) & (left + width < len(gray[0])) & (top > 0) & (top + height < len(gray))
    is_inside &= area > gray.size / 2000
    if min(gray.shape) > 100 and is_inside.any():
        area = area * is_inside
    large = 1 + np.flatnonzero(area > 0.03 * area.max())
    mask = 255 * np.isin(components, large).astype(np.uint8)

    # thicken thin strokes, which would fade at 28×28; a stroke is four times as wide as the mean
    # distance of its pixels from its edge
    x, y, width, height = cv2.boundingRect(mask)
    stroke = 4 * cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0].mean()
    missing = max(0, round(STROKE / SIDE * max(width, height) - stroke))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    character = Image.fromarray(cv2.dilate(mask, pen)[y : y + height, x : x + width])
    return np.array(ImageOps.pad(character, (SIDE, SIDE)))
