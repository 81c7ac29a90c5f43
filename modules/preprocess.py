"""Convert a user's picture to an image like KMNIST's: 28×28 pixels, white ink on black."""

from modules.errors import UserError, warn

import logging
import re
import warnings
from glob import escape, glob
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

# pixels: the side of an image, the width of KMNIST's strokes, the longest side to search for ink
SIDE, STROKE, LONGEST = 28, 2, 400
# the least difference between ink and paper, of 255
CONTRAST = 20
# the largest part of a shape's outline that may lie on the edge of the picture
ALONG_EDGE = 1 / 6
# kinds of pictures that Pillow may not read, so that find_pictures() does not pass them over
OTHER_SUFFIXES = {".avif", ".dng", ".heic", ".heif", ".pdf", ".svg"}
SUFFIXES = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
SUFFIXES |= OTHER_SUFFIXES
# how such files begin, whatever their names, in lower case
KINDS = {
    rb"%pdf": "is a PDF",
    rb"....ftyp(hei|hev|mif|msf)": "is a HEIC picture",
    rb"(<!doctype html|<html)": "is a web page (HTML)",
    rb".*<svg": "is an SVG drawing",
    rb"pk\x03\x04": "is a ZIP file",
}
# what there may be several of in a file; phones add a second picture, as MPO, for their own use
PARTS = {"TIFF": "pages", "GIF": "frames", "WEBP": "frames", "PNG": "frames"}

# what Pillow logs about a file's structure would go to standard error
logging.getLogger("PIL").addHandler(logging.NullHandler())


def find_pictures(paths):
    """Return `paths`, with each folder replaced by the pictures in it, each pattern by its files.

    Subfolders are searched, too; hidden files are left out. A path without pictures is returned.
    """
    files = []
    for path in paths:
        found = []
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
            found = [file for file in inside if "/." not in f"/{file.relative_to(path).as_posix()}"]
        elif not path.exists():
            # on Windows, no shell replaces *.jpg by the files; a folder's name may have brackets
            folder = next((parent for parent in path.parents if parent.exists()), path.parent)
            pattern = Path(escape(str(folder)), path.relative_to(folder))
            found = [Path(file) for file in sorted(glob(str(pattern)))]  # noqa: PTH207
        files += found or [path]
    return files


def read_picture(path):
    """Return the picture in a file, upright and without transparency: an RGB Pillow image.

    Raises UserError if the file is not a picture. Warns if there are more pictures in it.
    """
    if Path(path).is_dir():
        raise UserError("no picture in this folder")
    try:
        with warnings.catch_warnings():
            # of odd metadata, or of more than 89 megapixels: Pillow refuses twice as much
            warnings.simplefilter("ignore")
            picture, part = open_picture(path)
    except FileNotFoundError as error:
        raise UserError("does not exist") from error
    except Image.DecompressionBombError as error:
        raise UserError("larger than 178 megapixels: save it smaller") from error
    # Pillow raises many kinds of errors for a damaged file
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition(" '")[0]
        reason = name_kind(path) or reason
        raise UserError(f"{reason}: choose a JPEG or PNG file") from error
    if part:
        warn(f"{path}: has several {part}: only the first is used")

    # behind the transparent pixels: white paper or, where all ink is light, black
    alpha = np.asarray(picture)[..., 3]
    ink = np.asarray(picture.convert("L"))[alpha > 127]
    is_light = ink.size < alpha.size and ink.size > 0 and ink.min() > 127
    paper = Image.new("RGBA", picture.size, "black" if is_light else "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def open_picture(path):
    """Return the picture in a file as an RGBA Pillow image, and what it has several of, or None."""
    with Image.open(path) as file:
        part = PARTS.get(file.format) if getattr(file, "n_frames", 1) > 1 else None
        # a large JPEG is read at a fraction of its size
        file.draft("RGB", (4 * LONGEST, 4 * LONGEST))
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I"):
            # convert() would clip 16 bits instead of scaling them
            values = np.asarray(picture)
            values = values * (255 / max(255, values.max()))
            picture = Image.fromarray(values.astype(np.uint8))
        return picture.convert("RGBA"), part


def name_kind(path):
    """Return what a file is, such as "is a PDF", by its first bytes; or None."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(1000).lstrip().lower()
    except OSError:
        return None
    kinds = (kind for pattern, kind in KINDS.items() if re.match(pattern, start, re.DOTALL))
    return next(kinds, None)


def to_kmnist(picture):
    """Return the character in a picture as an image like KMNIST's, (28, 28) uint8.

    Takes and raises the same as find_character().
    """
    return find_character(picture)[0]


def find_character(picture):
    """Return the character in a picture as an image like KMNIST's, and where it is.

    picture: a Pillow image, dark on light or light on dark, in even or uneven light. Returns
    (28, 28) uint8, white on black, and the box (left, top, right, bottom) in the picture's pixels.
    Raises UserError if there is no character in it.
    """
    gray = picture.convert("L")
    gray.thumbnail((LONGEST, LONGEST))
    gray = np.array(gray)
    # an image of KMNIST's size, which needs nothing but white ink
    if gray.shape == (SIDE, SIDE) and np.ptp(gray) > CONTRAST:
        return gray if gray.mean() < 128 else 255 - gray, (0, 0, *picture.size)

    # whether ink is dark or light: what differs more often from a wide median
    half = min(gray.shape) // 3
    mirrored = cv2.copyMakeBorder(gray, half, half, half, half, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(mirrored, 2 * half + 1)[half:, half:][: len(gray), : len(gray[0])]
    difference = cv2.GaussianBlur(gray - paper.astype(np.float32), (0, 0), 1)
    is_dark = (difference < -CONTRAST).sum() > (difference > CONTRAST).sum()

    # ink is what is narrower than a pen of a third of the picture: the black-hat or the top-hat
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (min(gray.shape) // 3 + 1,) * 2)
    hat = cv2.MORPH_BLACKHAT if is_dark else cv2.MORPH_TOPHAT
    ink = cv2.morphologyEx(cv2.GaussianBlur(gray, (0, 0), 1), hat, pen)
    if ink.max() <= CONTRAST:
        raise UserError("nothing stands out from its background")
    _, mask = cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)

    # leave out specks, and what runs along an edge, such as a shadow: a stroke only ends there
    count, shapes, stats, _ = cv2.connectedComponentsWithStats(mask)
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    outline = mask > cv2.erode(framed, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    edge = np.pad(np.zeros_like(mask[1:-1, 1:-1], bool), 1, constant_values=True)
    outlines, on_edge = (np.bincount(shapes[where], minlength=count) for where in (outline, edge))
    area = stats[:, cv2.CC_STAT_AREA] * (np.arange(count) > 0)
    inner = area * (on_edge <= ALONG_EDGE * outlines)
    area = inner if inner.any() else area
    mask = 255 * np.isin(shapes, np.flatnonzero(area > 0.03 * area.max())).astype(np.uint8)

    # thicken thin strokes, which would fade at 28×28; a stroke is four times as wide as the mean
    # distance of its pixels from its edge
    x, y, width, height = cv2.boundingRect(mask)
    stroke = 4 * cv2.distanceTransform(mask, cv2.DIST_L2, 5)[mask > 0].mean()
    missing = max(0, round(STROKE / SIDE * max(width, height) - stroke))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    character = Image.fromarray(cv2.dilate(mask, pen)[y : y + height, x : x + width])
    scale = max(picture.size) / max(gray.shape)
    box = tuple(round(scale * edge) for edge in (x, y, x + width, y + height))
    return np.array(ImageOps.pad(character, (SIDE, SIDE))), box
