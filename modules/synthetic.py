"""Synthetic Hiragana: the ten characters drawn with many pens, then warped and worn."""

from modules.augment import warp
from modules.strokes import STROKES, draw_character

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

SIDE = 28


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
