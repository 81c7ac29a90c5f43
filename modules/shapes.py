"""The shapes of ink in a picture, and which of them are one character.

All numbers were chosen on training images and fonts, with tests/benchmarks/pictures.py.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# the slenderness of a shape: below it is compact; from and to it is one short stroke
COMPACT, SHORT = 25, (17, 45)
# how many shapes are looked at, and the least weight of one, as a part of the main one's
MOST, SPECK = 30, 0.04


@dataclass(eq=False)
class Shape:
    """A connected shape of ink, cut out of a picture.

    mask: (height, width) uint8, of 0 and 1; box: where it is, (left, top, right, bottom); weight:
    contrast times outline; ink: mean darkness; width: of its strokes, in pixels; slenderness:
    squared outline / area, which is 13 for a disc, 16 for a square, and four times length / width
    for a stroke; is_cut: whether it reaches the edge of the picture.
    """

    mask: np.ndarray
    box: np.ndarray
    weight: float
    ink: float
    width: float
    slenderness: float
    is_cut: bool


def find_shapes(mask, depth):
    """Return the heaviest shapes in a mask of ink: a list of Shape.

    What weighs is contrast, and a long outline with a steep slope: a flash has a gentle one.
    """
    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    slope = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    inks, outlines = (np.bincount(labels.ravel(), v.ravel(), number) for v in (depth, slope))
    inks /= stats[:, cv2.CC_STAT_AREA]
    # the first is the paper
    weights = inks * outlines * (np.arange(number) > 0)
    shapes = []
    for k in np.argsort(-weights)[: min(MOST, number - 1)]:
        left, top, width, height, _ = stats[k]
        box = np.array([left, top, left + width, top + height])
        part = np.uint8(labels[top : box[3], left : box[2]] == k)
        (outline, *_), _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        slenderness = cv2.arcLength(outline, True) ** 2 / max(1, cv2.contourArea(outline))
        is_cut = (box[:2] == 0).any() or (box[2:] == mask.shape[::-1]).any()
        shapes.append(
            Shape(part, box, weights[k], inks[k], stroke_width(part), slenderness, is_cut)
        )
    return shapes


def find_main(shapes):
    """Return the shape that looks most like writing, and a dict: how much each shape does."""
    written = {}
    for shape in shapes:
        inside = [k for k in shapes if (np.sign(k.box - shape.box) == [1, 1, -1, -1]).all()]
        inside = [k for k in inside if k.weight > SPECK * shape.weight]
        # sheets, holes and seals are compact, and so are a frame and the letter o
        is_o = shape.mask.mean() < 0.6 and not inside
        trust = 1 if shape.slenderness >= COMPACT else 0.3 if is_o else 0.03
        written[shape] = trust * shape.weight * (0.5 if shape.is_cut else 1)
    return max(shapes, key=written.get), written


def link(main, shapes, size):
    """Return the shapes that are one character with the main one, and other strokes beside it.

    size: height and width of the picture.
    """
    heavy = [k for k in shapes if k is not main and k.weight > SPECK * main.weight]
    dots = [k for k in shapes if k is not main and k not in heavy and is_dot(k, main)]
    # specks come in crowds
    others = heavy + dots if len(dots) < 7 else heavy
    # a crop that the character fills shows nothing else; in a larger picture, what the edge cuts
    # off is a neighbor
    is_crop = is_filled(size, main, others)
    if not is_crop:
        others = [k for k in others if not k.is_cut and may_belong(k, main)]

    # one shape after another, the nearest first
    parts, rest, box = [main], [], main.box
    while others:
        gaps = [np.max([k.box[:2] - box[2:], box[:2] - k.box[2:]]) for k in others]
        gap, k = min(gaps), others.pop(int(np.argmin(gaps)))
        if is_crop or gap < reach(k, main, box, gap):
            parts.append(k)
            box = around([box, k.box])
        else:
            rest.append(k)
    return parts, rest


def is_filled(size, main, others):
    """Return whether a picture is a crop, which one character fills, not two side by side."""
    margins = np.concatenate([main.box[:2], size[::-1] - main.box[2:]])
    box = around(k.box for k in [main, *others])
    axis = np.argmax(box[2:] - box[:2])
    margin = max(box[axis], size[1 - axis] - box[axis + 2])
    is_narrow = proportion(box) < 1.6
    return min(margins) <= side(main.box) / 4 and margin <= side(box) / 4 and is_narrow


def may_belong(shape, main):
    """Return whether a shape may be a part of a character, unlike a frame, a hole or a seal."""
    is_small = shape.mask.sum() < (2 * main.width) ** 2
    return is_stroke(shape) or is_small or is_dot(shape, main) or is_pair(shape, main)


def is_stroke(shape):
    return shape.slenderness >= COMPACT


def is_short(shape):
    """Return whether a shape is one short stroke, and neither round nor square."""
    return SHORT[0] < shape.slenderness < SHORT[1]


def is_pair(shape, main):
    """Return whether two shapes are no character by themselves: short strokes, or dots."""
    is_like = 0.33 < side(shape.box) / side(main.box) < 1.3
    are_dots = not is_stroke(shape) and main.slenderness < SHORT[1] and is_like
    return are_dots or (is_short(shape) and is_short(main))


def is_dot(shape, main):
    """Return whether a shape is as dark as the main one, and a dot or a ring of the same pen."""
    is_like = 0.45 < shape.width / main.width < 2.3 and shape.ink > 0.75 * main.ink
    return is_like and not is_stroke(shape) and side(shape.box) < 0.6 * side(main.box)


def reach(shape, main, box, gap):
    """Return how near the box of a character a shape must be to belong to it, in pixels.

    gap: how near it is.
    """
    thin, thick = sorted((shape.width, main.width))
    likeness = (thin / thick) ** 2
    if is_pair(shape, main):
        # dots, as in ":", may be far from each other, and so may strokes, as in an old "ha"
        return 2 * likeness * side(box) if is_short(shape) else 20 * side(box)
    # a second character as large as the first doubles the size, or makes it wider than high
    both = around([box, shape.box])
    is_wide = gap > 0 and proportion(both) > max(1.7, proportion(box))
    if side(both) >= 2 * side(box) or is_wide:
        return -np.inf
    if shape.slenderness < SHORT[0]:
        # dots are above, below or in a character, and holes and seals beside it
        is_beside = not box[0] < shape.box[[0, 2]].mean() < box[2]
        return -np.inf if is_beside else 0.36 * side(box)
    # strokes of one pen are about equally wide, and a large one may be farther away
    return likeness * (0.25 * side(box) + side(shape.box))


def draw(parts):
    """Return the mask of several shapes, and the box around them."""
    box = around(part.box for part in parts)
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for part in parts:
        left, top, right, bottom = part.box - np.tile(box[:2], 2)
        mask[top:bottom, left:right] |= part.mask
    return mask, box


def around(boxes):
    """Return the box around several boxes."""
    corners = np.array(list(boxes))
    return np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])


def side(box):
    """Return the longer side of a box."""
    return max(box[2:] - box[:2])


def proportion(box):
    """Return the width of a box divided by its height."""
    return np.divide(*(box[2:] - box[:2]))


def stroke_width(mask):
    """Return the mean width of strokes: four times the mean distance of pixels from the edge."""
    return 4 * cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1][mask > 0].mean()
