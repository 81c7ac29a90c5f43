"""Convert a user's picture to an image like KMNIST's: 28×28 pixels, white ink on black."""

from modules.messages import UserError
from modules.shapes import draw, find_main, find_shapes, link, side, stroke_width

import cv2
import numpy as np
from PIL import Image, ImageOps

# pixels: the side of an image, and the width of KMNIST's strokes; the longer side of the pictures
# in which ink is searched for
SIDE, STROKE, SHORTEST, LONGEST = 28, 2, 100, 256
# 150 levels of brightness are one unit of log(value + OFFSET), which keeps the grain of what is
# nearly black small; the least difference between ink and paper is CONTRAST levels
LEVELS, OFFSET, CONTRAST = 150, 64, 10
# two polarities, or two characters, are too much alike if one has this part of the other's weight
DOUBT, RIVAL = 0.8, 0.3


def find_character(picture, keep_28x28=False):
    """Return the character in a picture as an image like KMNIST's, and where it is.

    picture: a Pillow image, dark on light or light on dark, in even or uneven light; keep_28x28:
    return a picture of this size as it is. Returns (28, 28) uint8, white on black, and the box
    (left, top, right, bottom) in the picture's pixels. Raises UserError if there is no character in
    it, or more than one.
    """
    # an image of KMNIST's size needs nothing but white ink
    if picture.size == (SIDE, SIDE):
        gray, box = np.array(picture.convert("L")), (0, 0, SIDE, SIDE)
        if keep_28x28 or np.ptp(gray) > 20:
            is_light = gray.mean() >= 128 and not keep_28x28
            return (255 - gray if is_light else gray), box

    # look at the whole picture, then closer: only at the character and what is around it
    mask, box = look_at(picture)
    margin = side(box) / 2 + 1
    region = np.clip(box + [-margin, -margin, margin, margin], 0, picture.size * 2).astype(int)
    # the whole picture would look the same again
    if region.tolist() != [0, 0, *picture.size]:
        mask, box = look_at(picture.crop(region.tolist()))
        box += np.tile(region[:2], 2)

    # thicken thin strokes, which would fade at 28×28
    missing = max(0, round(STROKE / SIDE * max(mask.shape) - stroke_width(mask)))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    image = ImageOps.pad(Image.fromarray(255 * cv2.dilate(mask, pen)), (SIDE, SIDE))
    return np.array(image), tuple(box.round().astype(int).tolist())


def look_at(picture):
    """Return the mask of the character in a picture, of 0 and 1, and its box: (4,) float.

    Raises UserError if there is no character in it, or more than one.
    """
    brightness = log_brightness(picture)
    # ink may be dark or light: what is in between looks less like writing
    found = [find_written(values) for values in (brightness, 255 - brightness)]
    weights = [weight for _, weight, _ in found]
    parts, weight, rival = found[int(np.argmax(weights))]
    if weight == 0:
        raise UserError("nothing stands out from its background: choose another picture")
    if min(weights) > DOUBT * weight:
        raise UserError("both what is dark and what is light could be ink: crop the picture")
    if rival > RIVAL:
        raise UserError("there is more than one character: crop the picture")
    mask, box = draw(parts)
    return mask, box * max(picture.size) / max(brightness.shape)


def log_brightness(picture):
    """Return the logarithm of a picture's brightness, (height, width) uint8, at most LONGEST each.

    In logarithms, ink is as much darker than its paper in the light as in the shade. Brightness is
    measured along the colors that differ most nearby, so red ink on green paper is seen as well.
    """
    # enlarged, a little, or reduced: small pictures take less time
    longest = min(max(SHORTEST, int(1.5 * max(picture.size))), LONGEST)
    size = [max(1, round(pixels * longest / max(picture.size))) for pixels in picture.size]
    small = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    logs = np.log(cv2.GaussianBlur(np.float32(small), (0, 0), 1) + OFFSET)
    differences = (logs - cv2.blur(logs, (max(1, longest // 16),) * 2)).reshape(-1, 3)
    # the eigenvector of the largest eigenvalue: the first principal component
    axis = np.linalg.eigh(differences.T @ differences)[1][:, -1]
    brightness = logs @ (axis / np.abs(axis).sum() * np.sign(axis[np.abs(axis).argmax()]))
    return (LEVELS * (brightness - brightness.min())).clip(0, 255).astype(np.uint8)


def find_written(brightness):
    """Return the dark shapes that look like one character, and two weights.

    The first weight is the character's, 0 if there is none; the second is that of the heaviest
    other shape, as a fraction of the first.
    """
    depth = depth_of_ink(brightness)
    shapes = find_shapes(mask_of_ink(depth), depth)
    if not shapes:
        return [], 0, 0
    main, written = find_main(shapes)
    parts, rest = link(main, shapes, brightness.shape)
    total = sum(written[part] for part in parts)
    # ink leaves most of its box empty, and only a symbol such as a filled square leaves nothing
    empty = 1 - draw(parts)[0].mean()
    rival = max((written[shape] for shape in rest), default=0)
    return parts, total * max(empty, 0.01) ** 2, rival / total


def mask_of_ink(depth):
    """Return where there is ink: (height, width) uint8, of 0 and 1."""
    # the edge of a stroke is where it is half as dark, not where the logarithm of that is half
    darkness = np.uint8(255 * (1 - np.exp(depth / -LEVELS)))
    level, mask = cv2.threshold(darkness, 0, 1, cv2.THRESH_OTSU)
    # where a flash has faded a stroke, ink is half as dark as the darkest nearby
    nearby = 2 * (max(1, max(depth.shape) // 10),)
    darkest = cv2.blur(cv2.dilate(darkness, np.ones(nearby, np.uint8)), nearby)
    mask |= darkness > np.maximum(darkest, level) / 2
    mask[depth <= CONTRAST] = 0
    return mask


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
        for _ in range(3):
            water = cv2.max(cv2.erode(water, kernel), ground)
    return water
