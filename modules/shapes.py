"""The shapes of ink in a picture, and which of them are one character.

A shape is a connected component. The main shape is the one most likely to be written; others are
parts of the same character if they are near enough, and how near that is depends on how alike they
are. tests/benchmarks/README.md shows what each rule and number is worth.
"""

from dataclasses import dataclass

import cv2
import numpy as np

# how many shapes are looked at, strongest first; more take longer
MOST = 30
# a shape of less than this fraction of the main shape's strength is a speck, unless it is a blob at
# least as wide as this fraction of a stroke: a dot. Larger: more is taken for dirt
SPECK, DOT = 0.04, 0.45
# ink of less than this fraction of the main shape's depth shows through from the other side of the
# paper, or is badly wiped: larger, more parts in pale ink are lost
PALE = 0.55
# slenderness, length² / area of the outline: 17, 25 and 45 for a rectangle 1.7, 4 and 9 times as
# long as wide. Larger: more shapes are round; are blobs rather than strokes; are short strokes
ROUND, BLOB, SHORT = 17, 25, 45
# how likely a blob, or what the edge of the picture cuts off, is to be the character: larger, more
# seals and shadows are taken for it
LIKELY_BLOB, LIKELY_CUT = 0.3, 0.5
# fractions of the longer side of the parts so far. Larger: farther shapes are parts, be they
# strokes; short strokes beside a short one; dots above or below
NEAR, FAR, ABOVE = 0.25, 2, 0.36
# dots with at least this fraction of the main shape's side are its equals, as in a row of dots
EQUAL = 0.33
# a character and a crop are at most this much wider than high: larger, more words are one character
WIDE = 1.6
# a crop leaves at most this fraction of the character's side beside it: larger, more pictures are
# taken for crops, in which everything is a part
MARGIN = 0.25


@dataclass(eq=False)
class Shape:
    """A connected component of ink.

    box: (left, top, right, bottom); mask: the pixels in it, of 0 and 1; strength: how dark it is,
    times how long and sharp its edges are; ink: its mean depth; width: of its stroke, in pixels;
    slenderness: see above; is_cut: whether it reaches the edge of the picture.
    """

    box: np.ndarray
    mask: np.ndarray
    strength: float
    ink: float
    width: float
    slenderness: float
    is_cut: bool


def find_shapes(mask, depth):
    """Return the shapes in a mask of ink, (height, width) of 0 and 1, strongest first.

    depth: how much darker each pixel is than its paper, (height, width) uint8.
    """
    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    slope = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    inks, edges = (np.bincount(labels.ravel(), v.ravel(), number) for v in (depth, slope))
    inks /= stats[:, cv2.CC_STAT_AREA]
    # the first component is the paper
    strengths = inks * edges * (np.arange(number) > 0)
    shapes = []
    for k in np.argsort(-strengths)[: min(MOST, number - 1)]:
        left, top, width, height, _ = stats[k]
        box = np.array([left, top, left + width, top + height])
        part = np.uint8(labels[top : box[3], left : box[2]] == k)
        (outline, *_), _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        slenderness = cv2.arcLength(outline, True) ** 2 / max(1, cv2.contourArea(outline))
        is_cut = (box[:2] == 0).any() or (box[2:] == mask.shape[::-1]).any()
        width = stroke_width(part)
        shapes.append(Shape(box, part, strengths[k], inks[k], width, slenderness, is_cut))
    return shapes


def likely(shape):
    """Return a number that is larger, the likelier a shape is to be the character."""
    factor = LIKELY_BLOB if shape.slenderness < BLOB else 1
    return shape.strength * factor * (LIKELY_CUT if shape.is_cut else 1)


def choose_parts(shapes, size):
    """Return the shapes that are one character, and the others that may be another one.

    size: (height, width) of the picture.
    """
    main = max(shapes, key=likely)
    others = [k for k in shapes if k.strength > SPECK * main.strength or is_dot(k, main)]
    others.remove(main)
    dark = [k for k in others if k.ink > PALE * main.ink]
    is_crop = fills(main, dark, size)
    if not is_crop:
        # what the edge cuts off is a neighbor, and what surrounds the main shape is a frame
        others = [k for k in dark if not k.is_cut and not encloses(k.box, main.box)]
    # the nearest shape first; each part makes the box larger, and so the next one nearer
    parts, rest, box = [main], [], main.box
    while others:
        nearest = min(others, key=lambda shape: gap(box, shape.box))
        others.remove(nearest)
        if is_crop or belongs(nearest, main, box):
            parts.append(nearest)
            box = bounding_box([box, nearest.box])
        else:
            rest.append(nearest)
    return parts, rest


def fills(main, others, size):
    """Return whether the character fills the picture, of size (height, width): a crop."""
    box = bounding_box(shape.box for shape in [main, *others])
    margins = np.concatenate([main.box[:2], size[::-1] - main.box[2:]])
    # of all shapes, beside the longer side of their box
    axis = np.argmax(box[2:] - box[:2])
    margin = max(box[axis], size[1 - axis] - box[axis + 2])
    is_tight = min(margins) <= MARGIN * side(main.box) and margin <= MARGIN * side(box)
    # characters above each other, or side by side, fill a picture, too
    return is_tight and 1 / WIDE < aspect_ratio([0, 0, *size[::-1]]) < WIDE


def is_dot(shape, main):
    is_as_wide = shape.width > DOT * main.width
    return is_as_wide and shape.slenderness < BLOB


def belongs(shape, main, box):
    """Return whether a shape is a part of the character whose main shape and box are given."""
    distance, length = gap(box, shape.box), side(box)
    # strokes of one pen are about equally wide
    thin, thick = sorted((shape.width, main.width))
    likeness = (thin / thick) ** 2
    if is_short(shape) and is_short(main):
        # as in an old "ha", or in "="
        return distance < FAR * likeness * length
    is_equal = side(shape.box) > EQUAL * side(main.box)
    if is_equal and shape.slenderness < BLOB and main.slenderness < SHORT:
        # the dots of ":" may be far from each other
        return True
    # two characters side by side are wider than one
    both = bounding_box([box, shape.box])
    if distance > 0 and aspect_ratio(both) > max(WIDE, aspect_ratio(box)):
        return False
    if shape.slenderness < ROUND:
        # dots are above, below or in a character; holes and seals are beside it
        is_beside = not box[0] < shape.box[[0, 2]].mean() < box[2]
        return not is_beside and distance < ABOVE * length
    # a long stroke may be farther away
    return distance < likeness * (NEAR * length + side(shape.box))


def is_short(shape):
    """Return whether a shape is one short stroke, neither round nor square."""
    return ROUND < shape.slenderness < SHORT


def draw(parts):
    """Return the mask of several shapes, and the box around them."""
    box = bounding_box(part.box for part in parts)
    mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
    for part in parts:
        left, top, right, bottom = part.box - np.tile(box[:2], 2)
        mask[top:bottom, left:right] |= part.mask
    return mask, box


# boxes are (left, top, right, bottom), in pixels


def bounding_box(boxes):
    corners = np.array(list(boxes))
    return np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])


def side(box):
    return max(box[2:] - box[:2])


def aspect_ratio(box):
    """Return width / height."""
    left, top, right, bottom = box
    return (right - left) / (bottom - top)


def gap(box, other):
    """Return how far apart two boxes are, on the axis on which they are farther apart.

    It is negative where they overlap on both.
    """
    return np.max([box[:2] - other[2:], other[:2] - box[2:]])


def encloses(box, other):
    """Return whether a box is larger than another, on all four sides."""
    return (np.sign(box - other) == [-1, -1, 1, 1]).all()


def stroke_width(mask):
    """Return the mean width of strokes: four times the mean distance of pixels from the edge."""
    return 4 * cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1][mask > 0].mean()
