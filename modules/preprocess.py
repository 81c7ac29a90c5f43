"""Convert a user's picture to an image like KMNIST's: 28×28 pixels, white ink on black.

    brightness  logarithm of the picture's, at most 256 pixels wide and high
    depth       how much darker ink is than its paper: the black-hat, by reconstruction
    mask        where ink is not faint beside what Otsu's threshold finds
    shapes      the connected components of the mask
    parts       the shapes that are one character
    image       the mask of the parts, thickened if it is thin, at 28×28 pixels

Light ink is found in the same way, with the brightness inverted. Training and the network can be
understood without this file.
"""

from modules.messages import UserError
from modules.pictures import to_rgb
from modules.shapes import choose_parts, draw, find_shapes, likely, side, stroke_width

import cv2
import numpy as np
from PIL import Image, ImageOps

# pixels: the side of an image, and the width of KMNIST's strokes
SIDE, STROKE = 28, 2
# pixels: the longer side of the pictures in which ink is searched for
SHORTEST, LONGEST = 100, 256
# 150 levels of brightness are one unit of log(value + OFFSET), which keeps the grain of what is
# nearly black small
LEVELS, OFFSET = 150, 64
# ink is at least so many levels darker than its paper: larger, more pale ink is lost
CONTRAST = 10
# ink has at least this fraction of the strength of strong ink: larger, thinner strokes, and less of
# what shows through from the other side of the paper
FAINT = 0.45
# two polarities, or two characters, are too much alike if one has this fraction of the other's
# strength: larger, fewer pictures are refused
DOUBT, RIVAL = 0.75, 0.3


def find_character(picture, keep_28x28=False):
    """Return the character in a picture as an image like KMNIST's, and where it is.

    picture: a Pillow image of any mode, dark on light or light on dark, in even or uneven light (of
    a NumPy array: Image.fromarray(array)); keep_28x28: return a picture of this size as it is.
    Returns (28, 28) uint8, white on black, and the box (left, top, right, bottom) in the picture's
    pixels. Raises UserError if there is no character in it, or more than one.
    """
    picture = to_rgb(picture)
    # an image of KMNIST's size needs nothing but white ink
    if picture.size == (SIDE, SIDE):
        gray, box = np.array(picture.convert("L")), (0, 0, SIDE, SIDE)
        if keep_28x28 or np.ptp(gray) > 20:
            is_light = gray.mean() >= 128 and not keep_28x28
            return (255 - gray if is_light else gray), box

    # search the whole picture, then again, closer: the character and what is around it
    mask, box = find_mask(picture)
    margin = side(box) / 2 + 1
    region = np.clip(box + [-margin, -margin, margin, margin], 0, picture.size * 2).astype(int)
    # the whole picture would look the same again
    if region.tolist() != [0, 0, *picture.size]:
        mask, box = find_mask(picture.crop(region.tolist()))
        box += np.tile(region[:2], 2)

    # thicken thin strokes, which would fade at 28×28; a straight line needs room for that
    missing = max(0, round(STROKE / SIDE * max(mask.shape) - stroke_width(mask)))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (missing + 1, missing + 1))
    room = [max(0, missing + 1 - pixels) for pixels in mask.shape]
    mask = np.pad(mask, [(pixels // 2, pixels - pixels // 2) for pixels in room])
    image = ImageOps.pad(Image.fromarray(255 * cv2.dilate(mask, pen)), (SIDE, SIDE))
    # whole pixels, at least one, within the picture
    box = np.clip([*np.floor(box[:2]), *np.ceil(box[2:])], 0, picture.size * 2).astype(int)
    return np.array(image), tuple(box.tolist())


def find_mask(picture):
    """Return the mask of the character in a picture, of 0 and 1, and its box: (4,) float.

    Raises UserError if there is no character in it, or more than one.
    """
    brightness = log_brightness(picture)
    # ink may be dark or light: what is in between looks less like writing
    found = [find_parts(brightness, is_light=False), find_parts(255 - brightness, is_light=True)]
    strengths = [strength for _, strength, _ in found]
    parts, strength, rival = found[int(np.argmax(strengths))]
    if strength == 0:
        raise UserError("nothing stands out from its background: choose another picture")
    if min(strengths) > DOUBT * strength:
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
    small = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    logs = np.log(cv2.GaussianBlur(np.float32(small), (0, 0), 1) + OFFSET)
    differences = (logs - cv2.blur(logs, (max(1, longest // 16),) * 2)).reshape(-1, 3)
    # the eigenvector of the largest eigenvalue: the first principal component
    axis = np.linalg.eigh(differences.T @ differences)[1][:, -1]
    brightness = logs @ (axis / np.abs(axis).sum() * np.sign(axis[np.abs(axis).argmax()]))
    return (LEVELS * (brightness - brightness.min())).clip(0, 255).astype(np.uint8)


def find_parts(brightness, is_light):
    """Return the dark shapes that look like one character, and two strengths.

    is_light: whether brightness is inverted. The first strength is the character's, 0 if there is
    none; the second is that of the strongest other shape, as a fraction of all parts'.
    """
    depth = black_hat(brightness)
    shapes = find_shapes(mask_of_ink(depth, is_light), depth)
    if not shapes:
        return [], 0, 0
    parts, rest = choose_parts(shapes, brightness.shape)
    total = sum(likely(part) for part in parts)
    # ink leaves most of its box empty, and only a symbol such as a filled square leaves nothing
    empty = 1 - draw(parts)[0].mean()
    rival = max((likely(shape) for shape in rest), default=0)
    return parts, total * max(empty, 0.01), rival / total


def mask_of_ink(depth, is_light):
    """Return where there is ink: (height, width) uint8, of 0 and 1."""
    # depth is a difference of logarithms; strength is the light itself that dark ink takes away, or
    # light ink adds, as a fraction of the paper's
    ratio = np.exp(depth / (LEVELS if is_light else -LEVELS))
    strength = np.abs(ratio - 1)
    strength = np.uint8(255 * strength / max(strength.max(), 1e-6))
    _, mask = cv2.threshold(strength, 0, 1, cv2.THRESH_OTSU)
    strong = np.percentile(strength[mask > 0], 90) if mask.any() else 0
    return np.uint8((strength > FAINT * strong) & (depth > CONTRAST))


def black_hat(brightness):
    """Return how much darker each pixel is than the paper that surrounds it: uint8.

    The black-hat by reconstruction. What is dark and reaches the edge, such as a desk around the
    paper or a shadow, has a depth of 0, unless it is as narrow there as a stroke.
    """
    marker = np.full_like(brightness, 255)
    # along an edge, what is narrower than half the picture is a stroke that ends there
    pen = np.ones((1, min(brightness.shape) // 2 + 1), np.uint8)
    for values, marks in ((brightness, marker), (brightness.T, marker.T)):
        marks[[0, -1]] = cv2.morphologyEx(values[[0, -1]], cv2.MORPH_CLOSE, pen)
    depth = reconstruct(marker, brightness) - brightness
    # in a flash, paper beside a stroke is brighter than the paper around the character
    nearby = np.ones(2 * (max(2, max(brightness.shape) // 10),), np.uint8)
    beside = cv2.morphologyEx(brightness, cv2.MORPH_BLACKHAT, nearby)
    return np.where(depth > CONTRAST, np.maximum(depth, beside), depth)


def reconstruct(marker, mask):
    """Return the reconstruction by erosion of a mask from a marker: (height, width) uint8.

    The marker is eroded, but nowhere below the mask, until nothing changes (Vincent, "Morphological
    Grayscale Reconstruction in Image Analysis", 1993).
    """
    if min(mask.shape) > 16:
        # start from the result at half the size, where each pixel stands for the highest of four:
        # it is nowhere too low, and the rest of the way is short
        pair, options = np.ones((2, 2), np.uint8), {"anchor": (0, 0)}
        high = cv2.dilate(mask, pair, **options)[::2, ::2]
        low = cv2.erode(marker, pair, **options)[::2, ::2]
        half = reconstruct(np.maximum(low, high), high).repeat(2, axis=0).repeat(2, axis=1)
        marker = np.minimum(marker, half[: len(marker), : marker.shape[1]])
    kernel, before = np.ones((3, 3), np.uint8), None
    while not np.array_equal(marker, before):
        before = marker
        for _ in range(3):
            marker = cv2.max(cv2.erode(marker, kernel), mask)
    return marker
