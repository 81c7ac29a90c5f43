"""A picture of a character, photographed, scanned or drawn, brought to the form of KMNIST's images.

These are 28×28 pixels, white on black, and the character, in the middle, just fits in.
"""

import os
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import numpy as np

from modules.opencv import cv2

# pixels: the side of an image of KMNIST's, the width of its strokes, the longest side to look at
SIDE, STROKE, LOOK = 28, 2, 400
# endings of the files in a folder that are taken for pictures
PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# bytes of a file, and pixels along a side: more is not read, and not kept
MAX_FILE, LARGE = 200 * 2**20, 3000


def find_pictures(paths):
    """Return the files that `paths` name, those in folders by their ending and in order."""
    files = []
    for path in paths:
        inside = []
        # one that cannot be looked into stays a folder, and read_picture() says so
        with suppress(OSError):
            if path.is_dir():
                inside = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        files += inside or [path]
    return files


def read_picture(path):
    """Return the picture in a file: (H, W, 3) uint8, in OpenCV's order of colours.

    Raises ValueError, in words, where there is none. One with more pixels than opencv.py allows is
    refused before it takes memory.
    """
    try:
        if path.is_dir():
            raise ValueError("there is no picture in this folder")
        if not path.is_file():
            raise ValueError("there is no such file")
        if path.stat().st_size > MAX_FILE:
            raise ValueError("it is too large a file")
        # not imread(), which cannot open every name on Windows
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    picture = None
    try:
        if len(content):
            with _quiet():
                picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
                if picture is not None and picture.shape[2:] != (4,):
                    # upright, as the camera was held: what is read unchanged is not turned
                    picture = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ValueError("it has too many pixels: scale it down") from error
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError("it is no picture that OpenCV can read")
    shortest, longest = sorted(picture.shape[:2])
    if shortest < 8 or longest > 50 * shortest:
        raise ValueError("it is too small, or too narrow, to hold a character")
    if longest > LARGE:
        scale = LARGE / longest
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if picture.dtype == np.uint16:
        picture = (picture // 257).astype(np.uint8)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    return _on_paper(picture) if picture.shape[2] == 4 else picture


def _on_paper(picture):
    """Return a picture, (H, W, 4), with paper where it is transparent."""
    colors, alpha = picture[..., :3], picture[..., 3:] / np.float32(255)
    if alpha.mean() > 0.5:
        # so much cannot be ink: it is paper, with a transparent margin
        paper = np.median(colors[alpha[..., 0] > 0.5], axis=0)
    else:
        # the opposite of the ink
        paper = 255 if (colors * alpha).mean() < 127 * alpha.mean() else 0
    return (colors * alpha + paper * (1 - alpha)).astype(np.uint8)


@contextmanager
def _quiet():
    """Keep what the libraries that decode pictures write to standard error from the terminal."""
    with Path(os.devnull).open("w") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def to_kmnist(picture):
    """Return the character in a picture as KMNIST would have it, (28, 28) uint8.

    picture: (H, W) grey, or (H, W, 3) in OpenCV's order of colours, uint8; dark on light or light
    on dark, the light uneven if need be. Raises ValueError, in words, where there is no character,
    or more than one.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if picture.ndim == 3 else picture
    scale = min(1, LOOK / max(grey.shape))
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    ink, parts, (x, y, width, height) = _look(grey)

    rows, columns = grey.shape
    edges = (x == 0) + (y == 0) + (x + width == columns) + (y + height == rows)
    is_sheet = parts[y : y + height, x : x + width].mean() > 0.75
    if is_sheet and edges < 2 and width > columns / 3 and height > rows / 3:
        # no character is so full: this is a sheet of paper on a table, so look at that alone
        return to_kmnist(_crop(picture, scale, (x, y, width, height), margin=-0.03))
    if edges >= 2 and min(rows, columns) > LOOK / 4:
        # a shadow, more likely than a character that fills the picture: take away all that is
        # wider than the lines of one
        around = cv2.medianBlur(grey, 2 * (min(rows, columns) // 8) + 1)
        ink, parts, (x, y, width, height) = _look(128 + (grey.astype(int) - around) // 2, True)
    elif scale < 1 and max(width, height) < LOOK / 4:
        # a small character on a large picture: look closer
        return to_kmnist(_crop(picture, scale, (x, y, width, height), margin=0.5))

    # across a line, the mean distance from its edges is a quarter of its width
    stroke = 4 * cv2.distanceTransform(parts, cv2.DIST_L2, 5)[parts > 0].mean()
    _check_single(parts[y : y + height, x : x + width], stroke)

    # a fine pen's lines would fade at 28×28: make them as thick as KMNIST's are
    missing = round(STROKE * max(width, height) / SIDE - stroke)
    near = cv2.dilate(parts, np.ones((3, 3), np.uint8))
    ink = np.where(near, ink, 0).astype(np.float32)
    if missing > 0:
        pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
        ink = cv2.dilate(ink, pen)

    return _fit(ink[y : y + height, x : x + width])


def _crop(picture, scale, box, margin):
    """Return the part of a picture that is in a box, found at that scale, and some of its size."""
    x, y, width, height = (side / scale for side in box)
    extra = margin * max(width, height)
    top, left = max(0, round(y - extra)), max(0, round(x - extra))
    return picture[top : round(y + height + extra), left : round(x + width + extra)]


def _look(grey, inside=False):
    """Return the ink in a picture, (H, W), its mask without specks, and the box around that.

    inside: what touches an edge is a speck, too.
    """
    ink = _find_ink(grey)
    parts = _find_parts(ink > 0.4, inside)
    return ink, parts, cv2.boundingRect(parts)


def _find_ink(grey):
    """Return how much ink there is everywhere in a picture, (H, W), as float32 in [0, 1].

    The paper is a smooth surface through the half of the pixels that are nearest to one; ink is
    what differs from it, to the side where more does.
    """
    rows, columns = np.mgrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j]
    terms = np.stack([np.ones_like(rows), rows, columns, rows**2, rows * columns, columns**2], -1)
    every = max(1, max(grey.shape) // 64)
    some_terms = terms[::every, ::every].reshape(-1, 6)
    some = grey[::every, ::every].ravel().astype(float)
    kept = np.abs(some - np.median(some)) <= np.median(np.abs(some - np.median(some)))
    for _ in range(10):
        paper, *_ = np.linalg.lstsq(some_terms[kept], some[kept], rcond=None)
        distance = np.abs(some - some_terms @ paper)
        kept = distance <= np.median(distance)
    # half of all normal deviates are within 0.67 standard deviations
    noise = np.median(distance) / 0.67

    ink = (grey - terms @ paper).astype(np.float32)
    dark, light = (np.clip(side - 4 * noise, 0, None).sum() for side in (-ink, ink))
    ink = cv2.GaussianBlur(-ink if dark > light else ink, (0, 0), 0.5 + max(grey.shape) / 400)
    strongest = ink.max()
    if strongest < max(15, 4 * noise):
        raise ValueError("there is nothing on it that stands out")
    full = np.percentile(ink[ink > 0.5 * strongest], 60)
    return np.clip(ink / full, 0, 1)


def _find_parts(mask, inside):
    """Return the mask, uint8, without its specks."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height, areas = stats[1:].T
    is_inside = (left > 0) & (top > 0)
    is_inside &= (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    if inside and is_inside.any():
        areas = areas * is_inside
    return np.isin(labels, 1 + np.flatnonzero(areas >= 0.03 * areas.max())).astype(np.uint8)


def _check_single(parts, stroke):
    """Raise ValueError if a gap divides the parts, cropped, into two that are a character each.

    stroke: the width of their lines. A pair of characters of few strokes may pass for one.
    """
    height, width = parts.shape
    for axis, (length, breadth) in enumerate([(width, height), (height, width)]):
        ink = parts.sum(axis=axis)
        filled = np.flatnonzero(ink)
        gaps = np.diff(filled, append=filled[-1])
        before = ink[: filled[gaps.argmax()] + 1].sum()
        # a character's lines, put end to end, are longer than it is high; a stroke's are not
        lines = min(before, ink.sum() - before) / stroke
        if length > 1.5 * breadth and gaps.max() > 0.1 * breadth and lines > breadth:
            raise ValueError("there are two characters on it, or more: cut it in pieces")


def _fit(ink):
    """Return the ink, cropped, as a 28×28 image with the character in its middle."""
    scale = SIDE / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(ink, (width, height), interpolation=way)
    image = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    image[top : top + height, left : left + width] = small / small.max()
    return np.round(255 * image).astype(np.uint8)
