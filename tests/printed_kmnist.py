"""A small dataset in KMNIST's own file format: printed Hiragana drawn by OpenCV's fonts.

`python tests/printed_kmnist.py DIR` writes one that train.py takes as `--data DIR`.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

HIRAGANA = "おきすつなはまやれを"


def write_printed_kmnist(root, num_train=1200, num_test=300, seed=0):
    """Write the four files under root/KMNIST/raw; the classes are as equal as the counts allow."""
    rng = np.random.default_rng(seed)
    raw = Path(root, "KMNIST", "raw")
    raw.mkdir(parents=True)
    for split, count in (("train", num_train), ("t10k", num_test)):
        labels = (rng.permutation(count) % 10).astype(np.uint8)
        images = np.stack([_draw(HIRAGANA[label], rng) for label in labels])
        write_idx(raw / f"{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte", labels)


def write_idx(path, values):
    """Write a uint8 array as an IDX file: magic, the sizes of its dimensions, then its bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], dtype=">u4")
    path.write_bytes(header.tobytes() + values.tobytes())


def read_idx(path):
    """Return the uint8 array that an IDX file holds."""
    content = path.read_bytes()
    num_dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)


def _draw(character, rng):
    image = np.zeros((28, 28), np.uint8)
    face = cv2.FontFace(str(rng.choice(["sans", "uni"])))
    size, weight = int(rng.integers(17, 25)), int(rng.integers(200, 900))
    x, y = rng.integers(0, 29 - size), rng.integers(size - 3, 27)
    cv2.putText(image, character, (int(x), int(y)), 255, face, size, weight)

    # turn, slant and stretch about the middle, and let the paper show through
    matrix = np.eye(2) + rng.normal(scale=0.12, size=(2, 2))
    shift = 13.5 - matrix @ [13.5, 13.5]
    image = cv2.warpAffine(image, np.column_stack([matrix, shift]), (28, 28))
    noise = rng.normal(scale=25, size=image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    write_printed_kmnist(sys.argv[1], num_train=6000, num_test=1000)
