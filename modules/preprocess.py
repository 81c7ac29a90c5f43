"""Convert a user's picture to an image like KMNIST's: 28×28 pixels, white ink on black."""

from modules.messages import UserError

import cv2
import numpy as np
from PIL import Image, ImageOps

# pixels: the side of an image, the width of KMNIST's strokes, the longest side to search for ink
# pictures are small: threads would cost more than they save
cv2.setNumThreads(1)
SIDE, STROKE, LONGEST = 28, 2, 256
# 150 levels of brightness are one unit of log(value + OFFSET), which keeps the grain of what is
# nearly black small; the least difference between ink and paper is CONTRAST levels
LEVELS, OFFSET, CONTRAST = 150, 64, 10
# how slender a shape is (see slenderness()): at most, if it is compact; from and to, if it is one
# short stroke, and neither round nor square
COMPACT, SHORT = 25, (17, 45)
# two polarities, or two characters, are too much alike if one has this part of the other's weight
DOUBT, RIVAL = 0.8, 0.3
# how many shapes are looked at, and the least weight of one, as a part of the heaviest one's
MOST, SPECK = 30, 0.04


def find_character(picture, as_it_is=False):
    """Return the character in a picture as an image like KMNIST's, and where it is.

    picture: a Pillow image, dark on light or light on dark, in even or uneven light; as_it_is:
    change nothing in one of 28×28 pixels, as for training. Returns (28, 28) uint8, white on black,
    and the box (left, top, right, bottom) in the picture's pixels. Raises UserError if there is no
    character in it, or more than one.
    """
    # an image of KMNIST's size needs nothing but white ink
    if picture.size == (SIDE, SIDE):
        gray, box = np.array(picture.convert("L")), (0, 0, SIDE, SIDE)
        if as_it_is or np.ptp(gray) > 20:
            return gray if as_it_is or gray.mean() < 128 else 255 - gray, box

    # look at the whole picture, then closer: only at the character and what is around it
    _, box = look_at(picture)
    margin = side(box) / 2 + 1
    region = np.clip(box + [-margin, -margin, margin, margin], 0, picture.size * 2).astype(int)
    mask, box = look_at(picture.crop(region.tolist()))
    box = (box + np.tile(region[:2], 2)).round().astype(int)

    # thicken thin strokes, which would fade at 28×28
    missing = max(0, round(STROKE / SIDE * max(mask.shape) - stroke_width(mask)))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    image = ImageOps.pad(Image.fromarray(255 * cv2.dilate(mask, pen)), (SIDE, SIDE))
    return np.array(image), tuple(box.tolist())


def look_at(picture):
    """Return the mask of the character in a picture, of 0 and 1, and its box: (4,) float.

    Raises UserError if there is no character in it, or more than one.
    """
    brightness = log_brightness(picture)
    # ink may be dark or light: what is in between looks less like writing
    found = [find_written(values) for values in (brightness, 255 - brightness)]
    weights = [weight for _, weight, _ in found]
    mask, weight, rival = found[int(np.argmax(weights))]
    if weight == 0:
        raise UserError("nothing stands out from its background")
    if min(weights) > DOUBT * weight:
        raise UserError("both what is dark and what is light could be ink")
    if rival > RIVAL:
        raise UserError("there is more than one character")
    left, top, right, bottom = box = box_around(mask)
    return mask[top:bottom, left:right], box * max(picture.size) / LONGEST


def box_around(mask):
    """Return the box (left, top, right, bottom) of what is not 0 in a mask: (4,) int."""
    left, top, width, height = cv2.boundingRect(mask)
    return np.array([left, top, left + width, top + height])


def side(box):
    """Return the longer side of a box."""
    return np.max(box[2:] - box[:2])


def log_brightness(picture):
    """Return the logarithm of a picture's brightness, (height, width) uint8, at most LONGEST each.

    In logarithms, ink is as much darker than its paper in the light as in the shade. Brightness is
    measured along the colors that differ most nearby, so red ink on green paper is seen as well.
    """
    size = [max(1, round(side * LONGEST / max(picture.size))) for side in picture.size]
    small = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    logs = np.log(cv2.GaussianBlur(np.float32(small), (0, 0), 1) + OFFSET)
    differences = (logs - cv2.blur(logs, (LONGEST // 16,) * 2)).reshape(-1, 3)
    # the eigenvector of the largest eigenvalue: the first principal component
    axis = np.linalg.eigh(differences.T @ differences)[1][:, -1]
    brightness = logs @ (axis / np.abs(axis).sum() * np.sign(axis[np.abs(axis).argmax()]))
    return (LEVELS * (brightness - brightness.min())).clip(0, 255).astype(np.uint8)


def find_written(brightness):
    """Return the mask of the dark shapes that look like one character, and two weights.

    The mask is (height, width) uint8, of 0 and 1. The first weight is the character's, 0 if there
    is none; the second is that of the heaviest other shape, as a fraction of the first.
    """
    shapes, weights = find_shapes(depth_of_ink(brightness))
    written = [weight * looks_written(shape) for shape, weight in zip(shapes, weights)]
    if not any(written):
        return np.zeros_like(brightness), 0, 0
    main = int(np.argmax(written))
    character, total, rival = shapes[main], written[main], 0
    boxes = [box_around(shape) for shape in shapes]
    left, top, right, bottom = boxes[main]

    # a crop that the character fills shows nothing else; in a larger picture, what the edge cuts
    # off is a neighbor. Specks and large compact shapes, such as a frame or a seal, are no strokes
    height, width = brightness.shape
    is_crop = min(left, top, width - right, height - bottom) <= side(boxes[main]) / 4
    others = [k for k in range(len(shapes)) if k != main and weights[k] > SPECK * weights[main]]
    short = [SHORT[0] < slenderness(shape) < SHORT[1] for shape in shapes]
    if not is_crop:
        others = [k for k in others if not is_on_edge(shapes[k])]
        dot = (2 * stroke_width(character)) ** 2
        is_stroke = [written[k] > 0.1 * weights[k] or short[k] and short[main] for k in others]
        others = [k for k, yes in zip(others, is_stroke) if yes or shapes[k].sum() < dot]

    # link one shape after another to the character, the nearest first
    while others:
        box = box_around(character)
        gaps = [np.max([boxes[k][:2] - box[2:], box[:2] - boxes[k][2:]]) for k in others]
        gap, k = min(gaps), others.pop(int(np.argmin(gaps)))
        # a large stroke may be farther away than a dot, and strokes of one pen are about equally
        # wide, unlike those of a smaller character or of a seal. Two short strokes, such as those
        # of an old "ha", are no characters by themselves, and may be as far away as they are long
        is_pair = short[main] and short[k]
        thin, thick = sorted((stroke_width(shapes[k]), stroke_width(character)))
        reach = (thin / thick) ** 2 * ((1 if is_pair else 0.25) * side(box) + side(boxes[k]))
        # a second character as large as the first doubles the size
        is_single = is_pair or side(box_around(character | shapes[k])) < 2 * side(box)
        if is_crop or (gap < reach and is_single):
            character, total = character | shapes[k], total + written[k]
        else:
            rival = max(rival, written[k])
    # ink leaves most of its box empty, and only a symbol such as a filled square leaves nothing
    empty = 1 - character[character.any(axis=1)][:, character.any(axis=0)].mean()
    return character, total * max(empty, 0.01) ** 2, rival / total


def find_shapes(depth):
    """Return the heaviest shapes of ink, a list of (height, width) uint8, and their weights.

    What weighs is contrast, and a long outline with a steep slope: a flash has a gentle one.
    """
    # the edge of a stroke is where it is half as dark, not where the logarithm of that is half
    darkness = np.uint8(255 * (1 - np.exp(depth / -LEVELS)))
    level, mask = cv2.threshold(darkness, 0, 1, cv2.THRESH_OTSU)
    # where a flash has faded a stroke, ink is half as dark as the darkest nearby
    nearby = LONGEST // 10, LONGEST // 10
    darkest = cv2.blur(cv2.dilate(darkness, np.ones(nearby, np.uint8)), nearby)
    mask |= darkness > np.maximum(darkest, level) / 2
    mask[depth <= CONTRAST] = 0
    _, shapes = cv2.connectedComponents(mask)
    slope = cv2.morphologyEx(depth, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    sums = [np.bincount(shapes.ravel(), values.ravel())[1:] for values in (mask, depth, slope)]
    area, ink, outline = sums
    weights = ink / area * outline
    heaviest = np.argsort(-weights)[:MOST]
    return [np.uint8(shapes == k + 1) for k in heaviest], weights[heaviest]


def looks_written(shape):
    """Return 1, or less for a shape as compact as a sheet, a hole or a ring, or on the edge."""
    is_compact = slenderness(shape) < COMPACT
    return (0.03 if is_compact else 1) * (0.5 if is_on_edge(shape) else 1)


def slenderness(shape):
    """Return the squared outline of a shape, divided by the area in it.

    It is 16 for a square, 21 for a triangle, and four times length / width for a stroke.
    """
    outlines, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.arcLength(outlines[0], True) ** 2 / max(1, cv2.contourArea(outlines[0]))


def is_on_edge(shape):
    """Return whether a shape reaches the edge of the picture."""
    return shape[1:-1, 1:-1].sum() < shape.sum()


def depth_of_ink(ground):
    """Return how much darker each pixel is than the brighter paper that surrounds it: uint8.

    It is the depth of the lakes where brightness is the height of the ground, and water runs off
    at the edge of the picture: a desk around the paper, a shadow and a dark corner are dry.
    """
    water = np.full_like(ground, 255)
    # along an edge, what is narrower than half the picture is a stroke that ends there: a dam
    dam = np.ones((1, min(ground.shape) // 2 + 1), np.uint8)
    for values, level in ((ground, water), (ground.T, water.T)):
        level[[0, -1]] = cv2.morphologyEx(values[[0, -1]], cv2.MORPH_CLOSE, dam)

    return sink(water, ground) - ground


def sink(water, ground):
    """Let the water over uneven ground run off, to a neighbor of each pixel, until none moves."""
    if min(ground.shape) > 16:
        # at half the size, where each pixel stands for the highest of four, it runs off faster, but
        # nowhere lower: the rest of the way is short
        pair, options = np.ones((2, 2), np.uint8), {"anchor": (0, 0)}
        high = cv2.dilate(ground, pair, **options)[::2, ::2]
        low = cv2.erode(water, pair, **options)[::2, ::2]
        half = sink(np.maximum(low, high), high).repeat(2, axis=0).repeat(2, axis=1)
        water = np.minimum(water, half[: len(water), : water.shape[1]])
    kernel, before = np.ones((3, 3), np.uint8), None
    while not np.array_equal(water, before):
        before = water
        for _ in range(4):
            water = cv2.max(cv2.erode(water, kernel), ground)
    return water


def stroke_width(mask):
    """Return the mean width of strokes: four times the mean distance of pixels from the edge."""
    return 4 * cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1][mask > 0].mean()
