"""A dataset in memory: KMNIST, a folder of your own pictures, or synthetic Hiragana."""

from modules.classifier import to_input
from modules.errors import UserError, warn
from modules.kmnist import CLASSES, DownloadError, find_kmnist

import gzip
import hashlib
import zlib

import numpy as np
import torch
from torch.utils.data import Dataset

# the types of values that an IDX file may hold, by its third byte
IDX_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


class ImageDataset(Dataset):
    """Images, (N, 28, 28) uint8, white ink on black, and their labels, (N,) int64, in memory.

    name: the kind of dataset, as --dataset takes it; title: what to call it; classes: their names.
    """

    def __init__(self, name, title, classes, images, labels):
        self.name, self.title, self.classes = name, title, classes
        self.images, self.labels = images, labels.long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """Return an image, (1, 28, 28) float32 in [0, 1], and its label; for a list, a batch."""
        return to_input(self.images[index]), self.labels[index]

    # a DataLoader calls this, where it exists, once per batch instead of once per image
    __getitems__ = __getitem__

    def checksum(self):
        """Return a hash of the labels and images: --resume refuses other data."""
        checksum = hashlib.sha256(self.labels.numpy())
        # the pixels of synthetic Hiragana can differ slightly from one processor to another
        if self.name != "synthetic":
            checksum.update(self.images.numpy())
        return checksum.hexdigest()


def load_dataset(name, root, train):
    """Return the training set or the test set.

    name: `kmnist`, from the folder root/KMNIST/raw, downloaded if it is empty; `pictures`, from the
    folders root/train and root/test; `synthetic`; or `auto`, which is the pictures if there are
    any, else KMNIST, else, if that cannot be downloaded, synthetic Hiragana, with a warning. Raises
    UserError.
    """
    if name == "pictures" or (name == "auto" and has_pictures(root)):
        # this needs OpenCV, which training on KMNIST does not
        from modules.picture_folder import read_folder

        dataset = ImageDataset("pictures", *read_folder(root, train))
    elif name != "synthetic":
        try:
            dataset = ImageDataset("kmnist", "KMNIST", CLASSES, *read_kmnist(root, train))
        except DownloadError as error:
            if name == "kmnist":
                raise
            warn(f"using synthetic Hiragana instead: {error}")
            name = "synthetic"
    if name == "synthetic":
        return draw_synthetic(train)
    if train:
        check_pixels(dataset, root)
    return dataset


def has_pictures(root):
    """Return whether a folder is laid out as a dataset of pictures."""
    return (root / "train").is_dir() or (root / "test").is_dir()


def draw_synthetic(train):
    from modules.synthetic import draw_images

    images, labels = draw_images(60_000, seed=0) if train else draw_images(10_000, seed=1)
    return ImageDataset("synthetic", "synthetic Hiragana", CLASSES, images, labels)


def check_pixels(dataset, root):
    """Warn of images that the network would not learn from, or that are not like KMNIST's."""
    brightest, mean = dataset.images.max().item(), dataset.images.float().mean().item()
    if brightest <= 1:
        warn(f"{root}: no pixel is above {brightest}, but pixels from 0 to 255 are expected")
    elif mean > 127:
        warn(
            f"{root}: the images are mostly light (mean {mean:.0f} of 255), but white ink on black "
            "is expected"
        )


def read_kmnist(root, train):
    """Return images, (N, 28, 28), and labels, (N,), both uint8, from the folder root/KMNIST/raw.

    Raises UserError for files that are not as they should be, DownloadError where KMNIST cannot be
    downloaded.
    """
    paths = find_kmnist(root, train)
    folder = paths[0].parent
    print(f"[INFO] loading {'training' if train else 'test'} images from {folder}...")
    images, labels = (read_idx(path) for path in paths)
    fits = len(labels) > 0 and images.shape == (len(labels), 28, 28) and labels.ndim == 1
    if not fits or labels.max() >= len(CLASSES):
        values = f"{labels.min()} to {labels.max()}" if labels.size else "none"
        raise UserError(
            f"{folder}: {paths[0].name} holds an array of shape {images.shape} and {paths[1].name} "
            f"one of shape {labels.shape} with values from {values}: expected (N, 28, 28) and "
            "(N,) with values from 0 to 9"
        )
    return torch.tensor(images), torch.tensor(labels)


def read_idx(path):
    """Return the array in an IDX file of bytes, which may be gzipped.

    It starts with the bytes 0, 0, 8 (for uint8) and the number of dimensions. Their sizes follow,
    big-endian integers of 32 bits, and then the values. Raises UserError.
    """
    try:
        content = path.read_bytes()
        # what a gzipped file starts with
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if content[:2] == b"\0\0" and content[2] in IDX_TYPES:
            raise UserError(f"{path} holds values of type {IDX_TYPES[content[2]]}: expected uint8")
        if content[:3] != b"\0\0\x08":
            raise ValueError("another kind of file")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape)
    except UserError:
        raise
    except (gzip.BadGzipFile, zlib.error, EOFError, IndexError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, or not an IDX file of bytes: if it is one of KMNIST's, "
            "remove it to download it again; otherwise, replace it or choose another --data"
        ) from error


def require_folder(name, root):
    """Raise UserError if a dataset is gone: KMNIST must not be downloaded in its place."""
    folder = root / "KMNIST" / "raw" if name == "kmnist" else root
    if name in ("kmnist", "pictures") and not folder.is_dir():
        raise UserError(f"there is no dataset folder {folder}: choose another --data")
