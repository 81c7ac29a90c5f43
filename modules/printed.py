"""Printed characters, worn like old print: a dataset that is drawn, not downloaded.

OpenCV has a single font with Hiragana. Its strokes are thinned to lines and drawn again with pens
of other shapes and widths, which gives fifteen faces of type.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from modules.opencv import cv2

# pixels: the sides of an image, of a character, and of the canvas with a character in its middle
SIDE, EM, CANVAS = 28, 64, 96
# an image's pixel is the mean of 3×3 points of a canvas
OVERSAMPLING = 3


def draw_images(characters, num_images, seed):
    """Return drawings of the characters, equally many of each, and their labels.

    Returns images, (N, 28, 28) uint8, white ink on black, and labels, (N,) int64, which are
    indices into `characters`. A seed gives the same images on every machine, so nothing here
    depends on how a processor rounds.
    """
    # NumPy promises that what this older kind of generator draws will never change
    rng = np.random.RandomState(seed)
    labels = rng.permutation(num_images) % len(characters)
    glyphs = _draw_glyphs(characters)
    faces = rng.randint(glyphs.shape[1], size=num_images)
    neighbours = rng.randint(len(characters), size=num_images)
    has_neighbour = rng.randint(2, size=num_images)

    images = np.empty((num_images, SIDE, SIDE), np.uint8)
    for i, (placement, neighbour_placement) in enumerate(_draw_placements(rng, num_images)):
        images[i] = _warp(glyphs[labels[i], faces[i]], placement)
        if has_neighbour[i]:
            neighbour = _warp(glyphs[neighbours[i], faces[i]], neighbour_placement)
            images[i] = np.maximum(images[i], neighbour)

    # in batches, as wearing an image takes many times its memory
    fine, coarse = _draw_texture(rng, spot=1.2), _draw_texture(rng, spot=3)
    for start in range(0, num_images, 1000):
        batch = slice(start, start + 1000)
        images[batch] = _wear(images[batch], fine, coarse, rng)
    return images, labels


def _draw_glyphs(characters):
    """Return every character in every face: (characters, faces, 96, 96) uint8, 0 or 255."""
    glyphs = []
    for character in characters:
        canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        cv2.putText(canvas, character, (16, 72), 255, cv2.FontFace("uni"), size=EM)
        lines = cv2.ximgproc.thinning(cv2.compare(canvas, 127, cv2.CMP_GT))
        x, y, width, height = cv2.boundingRect(lines)
        to_middle = (CANVAS - height) // 2 - y, (CANVAS - width) // 2 - x
        lines = np.roll(lines, to_middle, axis=(0, 1))
        glyphs.append([cv2.dilate(lines, pen) for pen in _pens()])
    return np.array(glyphs)


def _pens():
    """Yield the pens, uint8 masks: round, flat, upright, and two aslant, in three widths each."""
    for width in (5, 7, 9):
        slant = cv2.dilate(np.eye(width, dtype=np.uint8), np.ones((2, 2), np.uint8))
        yield cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        yield np.ones((3, width), np.uint8)
        yield np.ones((width, 3), np.uint8)
        yield slant
        yield cv2.flip(slant, 0)


def _draw_placements(rng, num_images):
    """Return how each image looks at its canvas and at its neighbour's: (N, 2, 2, 3) float64.

    Each is an affine matrix, as cv2.warpAffine() takes it, from points of the image to the canvas.
    """
    height = rng.uniform(15, 25, num_images) / EM
    width = height * rng.uniform(0.85, 1.15, num_images)
    turn = np.deg2rad(rng.normal(0, 9, num_images))
    slant = turn + rng.normal(0, 0.2, num_images)
    to_image = OVERSAMPLING * np.array(
        [
            [width * np.cos(turn), -height * np.sin(slant)],
            [width * np.sin(turn), height * np.cos(slant)],
        ]
    )
    to_canvas = np.linalg.inv(to_image.transpose(2, 0, 1))
    middle = OVERSAMPLING * rng.normal(SIDE / 2, 1.8, (num_images, 2, 1))
    shift = CANVAS / 2 - to_canvas @ middle

    # the neighbour is a character's size away, at one of the four sides
    side = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])[rng.randint(4, size=num_images)]
    step = EM * side * rng.uniform(0.95, 1.2, (num_images, 1)) + rng.normal(0, 4, (num_images, 2))

    # numbers of few binary digits, which never meet the middle between two pixels: no rounding
    return np.stack(
        [
            np.concatenate([np.round(1024 * to_canvas), np.round(1024 * s) + 0.5], axis=2) / 1024
            for s in (shift, shift - step[..., None])
        ],
        axis=1,
    )


def _warp(canvas, placement):
    size = OVERSAMPLING * SIDE, OVERSAMPLING * SIDE
    # nearest neighbours: every other way of interpolation rounds as the processor does
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    points = cv2.warpAffine(canvas, placement, size, flags=flags)
    return cv2.resize(points, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _draw_texture(rng, spot):
    """Return a random pattern, (512, 512) uint8, all values equally often, spots so many pixels."""
    noise = rng.randint(256, size=(512, 512)).astype(np.uint8)
    return cv2.equalizeHist(cv2.GaussianBlur(noise, (0, 0), spot))


def _wear(images, fine, coarse, rng):
    """Return the images (N, 28, 28) as worn type prints them, 0 to 255: uneven, gaps and blots."""
    num_images = len(images)

    def crops(texture):
        windows = sliding_window_view(texture, (SIDE, SIDE))
        rows, columns = rng.randint(len(windows), size=(2, num_images))
        return windows[rows, columns].astype(int)

    def one_each(low, high):
        return rng.randint(low, high, size=(num_images, 1, 1))

    # a low threshold makes strokes thick, a high one thin; it wanders within an image
    threshold = one_each(50, 150) + (crops(coarse) - 128) // 3
    ink = np.clip(3 * (images.astype(int) - threshold) + 128, 0, 255)
    ink[crops(fine) < one_each(0, 110)] //= 4
    ink[crops(coarse) > 255 - one_each(0, 18)] = 255

    # the ink is faded, and the paper has a grain
    ink = ink * one_each(150, 256) // 255
    return np.clip(ink + crops(fine) // 16 + rng.randint(16, size=ink.shape), 0, 255)
