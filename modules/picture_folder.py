"""A folder of your own pictures as a dataset: train/CLASS/... and test/CLASS/..."""

from modules.cli import progress_bar
from modules.errors import UserError, warn
from modules.pictures import SUFFIXES, read_picture
from modules.preprocess import SIDE, to_kmnist

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.datasets.folder import make_dataset


def read_folder(root, train):
    """Return a title, the names of the classes, images and labels of the training or the test set.

    The images are (N, 28, 28) uint8, the labels (N,) int64, in the order of the classes, which are
    the folders in root/train, sorted. Raises UserError if the folders are not as expected.
    """
    classes, test_classes = (list_folders(root / split) for split in ("train", "test"))
    unknown = sorted(set(test_classes) - set(classes))
    if len(classes) < 2 or not test_classes or unknown:
        raise UserError(
            f"{root} has the folders {names('train', classes)} and {names('test', test_classes)}: "
            "expected pictures in train/CLASS and test/CLASS, with two or more classes in train, "
            "and none in test that train lacks"
        )
    folder = root / ("train" if train else "test")
    print(f"[INFO] loading {'training' if train else 'test'} images from {folder}...")
    labels_of = {name: label for label, name in enumerate(classes)}
    listed = {name: labels_of[name] for name in (classes if train else test_classes)}
    pairs = make_dataset(str(folder), listed, is_valid_file=is_listed, allow_empty=True)

    images, labels = [], []
    for path, label in progress_bar(pairs, "reading"):
        try:
            images.append(read_image(path))
            labels.append(label)
        except UserError as error:
            warn(f"{path}: {error}; left out")
    empty = [name for name, label in listed.items() if train and label not in labels]
    if empty or not images:
        raise UserError(f"no picture in {', '.join(str(folder / name) for name in empty or ['*'])}")
    title = f"{len(classes)} classes of pictures"
    return title, classes, torch.tensor(np.array(images)), torch.tensor(labels)


def list_folders(folder):
    """Return the sorted names of the folders in a folder, without hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def names(split, classes):
    return ", ".join(f"{split}/{name}" for name in classes) or f"{split}/ (none)"


def is_listed(path):
    return Path(path).suffix.lower() in SUFFIXES and not Path(path).name.startswith(".")


def read_image(path):
    """Return a picture as (28, 28) uint8: as it is if it has that size, else like KMNIST's."""
    # the short way for gray pictures: MNIST as files has 60,000 of them
    with suppress(Exception), warnings.catch_warnings():
        # of more than 89 megapixels: read_picture() refuses twice as much
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            if (file.size, file.mode) == ((SIDE, SIDE), "L"):
                return np.array(file)
    picture = read_picture(path)
    return np.array(picture.convert("L")) if picture.size == (SIDE, SIDE) else to_kmnist(picture)
