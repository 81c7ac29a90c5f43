"""KMNIST's file format, written and read without the help of the project's own code."""

import numpy as np


def idx_bytes(values):
    """Return a uint8 array as an IDX file: magic, the sizes of its dimensions, then its bytes."""
    header = np.array([0x0800 + values.ndim, *values.shape], dtype=">u4")
    return header.tobytes() + values.tobytes()


def read_idx(path):
    """Return the uint8 array that an IDX file holds."""
    content = path.read_bytes()
    num_dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=num_dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * num_dimensions).reshape(shape)
