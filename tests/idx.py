"""KMNIST's file format, written without the help of the project's own code."""

import numpy as np


def idx_bytes(values):
    """Return a uint8 array as an IDX file: magic, the sizes of its dimensions, then its bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], dtype=">u4")
    return header.tobytes() + values.tobytes()


def write_dataset(root, **splits):
    """Write KMNIST's files into a folder for --data; splits: train and t10k, (images, labels)."""
    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in splits.items():
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels.astype(np.uint8)))
    return raw
