"""The ten modern Hiragana of KMNIST's classes, as strokes, and how one is drawn."""

import cv2
import numpy as np
from scipy.interpolate import make_interp_spline

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


def draw_character(canvas, name, x, y, size, color, width):
    """Draw a character onto the canvas; x, y: its top left corner, in pixels."""
    for stroke in STROKES[name].split(", "):
        points = np.array([[int(point[:2]), int(point[2:])] for point in stroke.split()])
        curve = make_interp_spline(range(len(points)), points, k=min(3, len(points) - 1))
        points = curve(np.linspace(0, len(points) - 1, 50)) * size / 100 + (x, y)
        # OpenCV takes coordinates in sixteenths of a pixel
        points = (16 * points).round().astype(np.int32)
        cv2.polylines(canvas, [points], False, color, width, cv2.LINE_AA, shift=4)
