"""KMNIST's file format, written without the help of the project's own code."""

import gzip

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
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            values = np.asarray(values).astype(np.uint8)
            (raw / f"{split}-{kind}-ubyte").write_bytes(idx_bytes(values))
    return raw


def read_dataset(root, split):
    """Return images and labels from a folder for --data, as its files, plain or .gz, have them."""
    for kind, offset, shape in (("images-idx3", 16, (-1, 28, 28)), ("labels-idx1", 8, (-1,))):
        path, *_ = sorted((root / "KMNIST" / "raw").glob(f"{split}-{kind}-ubyte*"))
        content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        yield np.frombuffer(content, np.uint8, offset=offset).reshape(shape).copy()
