"""Synthetic Hiragana: ten characters drawn as strokes, with many pens, then warped and worn."""

from modules.augment import warp

import cv2
import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch.nn.functional import interpolate

# the strokes of each character: curves through points on a grid of 100×100, two digits for x and y
STROKES = {
    "o": "1430 5827, 3610 3640 3672 3283 2385 1777 2168 3658 5851 7656 8369 7682 5888, 6820 8436",
    "ki": "1828 7818, 1450 8438, 4208 5336 6960, 2666 2680 4390 7288",
    "su": "0826 9224, 5406 5430 5458 4868 3866 3256 3646 4743 5550 5866 5283 3696",
    "tsu": "1036 4026 6825 8537 8954 7672 4682",
    "na": "1226 5020, 3406 2834 1260, 6622 8638, 6440 6460 6376 5688 4489 3683 4373 5873 7480 8890",
    "ha": "1812 1340 1370 1892, 3630 9228, 6810 6840 6866 6482 5489 4283 4575 5671 7477 9088",
    "ma": "1822 8220, 2242 7840, 5206 5236 5264 4981 3989 2685 2375 3469 5071 6778 8490",
    "ya": "0848 4034 7028 8636 8448 7257 6058, 4608 5624, 2616 4054 5492",
    "re": "2608 2694, 0832 3625 2247 0672, 0672 3444 5430 6334 6456 6277 6787 7886 9272",
    "wo": "1422 7618, 4606 3628 1654, 1654 3144 4743 5453 5466, 8440 5452 3765 3578 4689 8490",
}
SIDE = 28


def draw_character(canvas, name, x, y, size, color, width):
    """Draw a character onto the canvas; x, y: its top left corner, in pixels."""
    for stroke in STROKES[name].split(", "):
        points = np.array([[int(point[:2]), int(point[2:])] for point in stroke.split()])
        curve = make_interp_spline(range(len(points)), points, k=min(3, len(points) - 1))
        points = curve(np.linspace(0, len(points) - 1, 50)) * size / 100 + (x, y)
        # OpenCV takes coordinates in sixteenths of a pixel
        points = (16 * points).round().astype(np.int32)
        cv2.polylines(canvas, [points], False, color, width, cv2.LINE_AA, shift=4)


def draw_images(num_images, seed):
    """Draw the ten characters, the same number of each; return images and labels.

    Returns images, (N, 28, 28) uint8, white ink on black, and labels, (N,) int64. On one machine, a
    seed always gives the same images.
    """
    # every character with every pen, at three times the size, then reduced
    glyphs, sizes = [], [(width, height) for width in (3, 5, 7, 9) for height in (3, 5, 7, 9)]
    for name in STROKES:
        canvas = np.zeros((3 * SIDE, 3 * SIDE), np.uint8)
        draw_character(canvas, name, x=12, y=12, size=60, color=255, width=1)
        for size in sizes:
            glyph = cv2.dilate(canvas, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
            glyphs.append(cv2.resize(glyph, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    glyphs = torch.tensor(np.array(glyphs)).view(len(STROKES), len(sizes), SIDE, SIDE) / 255

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        labels = torch.randperm(num_images) % len(STROKES)
        batches = [draw_batch(glyphs, batch) for batch in labels.split(1000)]
    return torch.cat(batches), labels


def draw_batch(glyphs, labels):
    """Draw each of the N labels with a random pen; return (N, 28, 28) uint8."""
    num_images = len(labels)
    pens = torch.randint(glyphs.shape[1], (num_images,))
    images = glyphs[labels, pens]

    # a quarter of the images show a bit of the character above, another quarter of the one below
    others = glyphs[torch.randint(len(glyphs), (num_images,)), pens]
    above, below = others.roll(9, dims=1)[0::4, :5], others.roll(-9, dims=1)[1::4, -5:]
    images[0::4, :5] = images[0::4, :5].maximum(above)
    images[1::4, -5:] = images[1::4, -5:].maximum(below)
    images = warp(images.unsqueeze(1), strength=1.6).squeeze(1)

    def one_each(low, high):
        return torch.empty(num_images, 1, 1).uniform_(low, high)

    def smooth_noise(points):
        noise = torch.randn(num_images, 1, points, points)
        return interpolate(noise, (SIDE, SIDE), mode="bilinear").squeeze(1)

    # a low threshold makes strokes thick, a high one thin; it varies within an image
    threshold = one_each(0.25, 0.55) + 0.12 * smooth_noise(8)
    ink = (4 * (images - threshold) + 0.5).clamp(0, 1)
    # missing ink and blots, faded ink, and the grain of the paper
    wear = smooth_noise(14)
    ink[wear < one_each(-4, -1)] *= 0.2
    ink[wear > one_each(1.6, 4)] = 1
    ink = one_each(0.6, 1) * ink + 0.08 * torch.rand(num_images, SIDE, SIDE)
    return (255 * ink.clamp(0, 1)).byte()
