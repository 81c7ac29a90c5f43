"""Printed Hiragana: a dataset that is drawn, not downloaded.

OpenCV has a single font with Hiragana. Its strokes are thinned to lines and drawn again with pens
of other shapes and widths, which gives fifteen typefaces. You can skip this module.
"""

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from modules.augment import warp

# OpenCV 4 has no font with Hiragana, and 5.1 has none either
if not cv2.__version__.startswith("5.0."):
    raise ImportError(f"OpenCV 5.0 is needed to draw Hiragana, not {cv2.__version__}")
FONT = cv2.FontFace("uni")

# pixels: the sides of an image, of the canvas to draw a character on, and of the character
SIDE, CANVAS, CHARACTER = 28, 90, 64


def draw_images(characters, num_images, seed):
    """Draw the characters, the same number of each; return images and labels.

    Returns images, (N, 28, 28) uint8, white ink on black, and labels, (N,) int64, which are
    indices into `characters`. On one machine, a seed always gives the same images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        glyphs = draw_glyphs(characters)
        labels = torch.randperm(num_images) % len(characters)
        batches = [draw_batch(glyphs, batch) for batch in labels.split(1000)]
    return torch.cat(batches).numpy(), labels.numpy()


def draw_glyphs(characters):
    """Return every character in every typeface: (characters, typefaces, 28, 28) in [0, 1]."""
    pens = []
    for width in (5, 7, 9):
        slanted = cv2.dilate(np.eye(width, dtype=np.uint8), np.ones((2, 2), np.uint8))
        pens += [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))]
        pens += [np.ones((3, width), np.uint8), np.ones((width, 3), np.uint8)]
        pens += [slanted, cv2.flip(slanted, 0)]

    glyphs = []
    for character in characters:
        canvas = np.zeros((CANVAS, CANVAS), np.uint8)
        cv2.putText(canvas, character, (13, 70), 255, FONT, size=CHARACTER)
        lines = cv2.ximgproc.thinning(cv2.compare(canvas, 127, cv2.CMP_GT))
        x, y, width, height = cv2.boundingRect(lines)
        to_middle = (CANVAS - height) // 2 - y, (CANVAS - width) // 2 - x
        lines = np.roll(lines, to_middle, axis=(0, 1))
        for pen in pens:
            glyph = cv2.dilate(lines, pen)
            glyphs.append(cv2.resize(glyph, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return torch.tensor(np.array(glyphs)).view(len(characters), -1, SIDE, SIDE) / 255


def draw_batch(glyphs, labels):
    """Draw each of the N labels in a random typeface; return (N, 28, 28) uint8."""
    num_images = len(labels)
    faces = torch.randint(glyphs.shape[1], (num_images,))
    images = glyphs[labels, faces]

    # a quarter of the images show a bit of the character above, another quarter of the one below
    others = glyphs[torch.randint(len(glyphs), (num_images,)), faces]
    images[0::4, :5] = torch.maximum(images[0::4, :5], others[0::4, -9:-4])
    images[1::4, -5:] = torch.maximum(images[1::4, -5:], others[1::4, 4:9])
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
