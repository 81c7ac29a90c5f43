"""What is trained on: KMNIST, a folder of your own pictures, or synthetic Hiragana, in memory."""

from modules.kmnist import CLASSES, DownloadError, read_kmnist
from modules.layouts import find_dataset, holds, not_as_expected, some, warn_of_pixels
from modules.messages import UserError, warn

import hashlib
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import TensorDataset


class ImageSets(NamedTuple):
    """Training and test images, (N, 1, 28, 28) float32 in [0, 1], and their labels, (N,) int64.

    name: `kmnist`, `pictures` or `synthetic`; title: what to call it; classes: their names, in the
    order of the labels; folder: its path; checksum: a hash of the training set.
    """

    name: str
    title: str
    classes: list
    folder: str
    checksum: str
    train: TensorDataset
    test: TensorDataset


def load_dataset(name="auto", folder=None):
    """Return ImageSets: `kmnist`, `pictures`, `synthetic`, or with `auto` what the folder holds.

    KMNIST is downloaded to folder/KMNIST/raw if it is not there; pictures are in folder/train/CLASS
    and folder/test/CLASS. Without a folder, it is `data`, and `auto` draws synthetic Hiragana where
    KMNIST cannot be downloaded. Raises UserError, OSError.
    """
    root, must_be_found = Path(folder or "data"), bool(folder) or name != "auto"
    if name == "auto":
        name = find_dataset(root, is_given=bool(folder))
    try:
        return read_dataset(name, root)
    except DownloadError as error:
        # nothing takes the place of what the user has asked for
        if must_be_found:
            raise
        warn(f"using synthetic Hiragana instead: {error}")
        return read_dataset("synthetic", root)


def read_dataset(name, root):
    """Return the ImageSets `kmnist`, `pictures` or `synthetic`. Raises UserError, OSError."""
    classes = CLASSES
    if name == "pictures":
        # this imports torchvision and OpenCV
        from modules.class_folders import list_classes

        classes = list_classes(root)
    images, labels = read_images(name, root, "train", classes)
    test_images, test_labels = read_images(name, root, "test", classes)
    if name == "pictures":
        check_pictures(root, classes, images, labels, test_images)
    elif name == "kmnist":
        warn_of_pixels(root, images)

    checksum = hashlib.sha256(labels)
    # the pixels of synthetic Hiragana can differ slightly from one processor to another
    checksum.update(b"" if name == "synthetic" else images)
    titles = {"kmnist": "KMNIST", "synthetic": "synthetic Hiragana"}
    title = titles.get(name, f"{len(classes)} classes of pictures")
    train = TensorDataset(to_input(images), torch.tensor(labels))
    test = TensorDataset(to_input(test_images), torch.tensor(test_labels))
    return ImageSets(name, title, classes, realpath(root), checksum.hexdigest(), train, test)


def to_input(images):
    """Return images, (..., 28, 28) uint8, as the network takes them: scaled to [0, 1].

    Returns (..., 1, 28, 28) float32: unsqueeze() adds the dimension of the channel.
    """
    return torch.as_tensor(images).unsqueeze(-3) / 255


def read_images(name, root, split, classes):
    """Return the images, (N, 28, 28) uint8, of `train` or `test`, and their labels, (N,) int64."""
    if name == "pictures":
        from modules.class_folders import read_pictures

        return read_pictures(root / split, classes)
    if name == "kmnist":
        return read_kmnist(root, split)
    # this imports OpenCV, which training on KMNIST does not need
    from modules.synthetic import draw_images

    number, seed = (60_000, 0) if split == "train" else (10_000, 1)
    images, labels = draw_images(number, seed)
    return images.numpy(), labels.numpy()


def load_test_images(checkpoint, folder=None, num=None):
    """Return random test images, (N, 1, 28, 28) float32 in [0, 1], and their labels, (N,) int64.

    checkpoint: of the model to test; folder: where they are, if not where the model's were; num:
    how many, or all of them. Raises UserError, OSError.
    """
    name, classes = checkpoint["dataset"], checkpoint["classes"]
    root = Path(folder or checkpoint["data"])
    if name == "auto":
        # nothing else is known of a file that is just a state dict
        sets = load_dataset(folder=folder)
        name, root = sets.name, Path(sets.folder)
    elif folder:
        # it may hold both
        name = "kmnist" if holds("kmnist", root) and name != "pictures" else find_dataset(root)
    elif name == "kmnist" and not holds("kmnist", root):
        warn(f"KMNIST is not in {root}, where the model found it: using the folder data")
        root = Path("data")

    if name == "pictures":
        from modules.class_folders import read_pictures

        images, labels = read_pictures(root / "test", classes, num)
    elif sorted(classes) == sorted(CLASSES):
        images, labels = read_images(name, root, "test", classes)
        chosen = torch.randperm(len(labels))[:num].numpy()
        # classes of your own may have the same names, in another order
        order = np.array([classes.index(name) for name in CLASSES])
        images, labels = images[chosen], order[labels[chosen]]
    else:
        raise UserError(f"{root} has other classes ({', '.join(CLASSES)}) than the model")
    return to_input(images), torch.tensor(labels)


def check_pictures(root, classes, images, labels, test_images):
    """Raise UserError for a class without training images; warn of test images among those."""
    empty = [f"train/{name}" for label, name in enumerate(classes) if label not in labels]
    if empty:
        raise not_as_expected(root, f"has no picture for training in {some(empty)}")
    seen = {image.tobytes() for image in images}
    num_seen = sum(image.tobytes() in seen for image in test_images)
    if num_seen:
        warn(
            f"{num_seen} of {len(test_images)} test pictures are training pictures, too: the test "
            "accuracy will be too good"
        )


def check_split(train_data, val_data, sets):
    """Print the number of images; warn of classes that are in validation alone.

    Raises UserError if a part is empty.
    """
    if not train_data or not val_data:
        raise UserError("no image is left for training, or for validation: change --val-split")
    sizes = f"{len(train_data)} training, {len(val_data)} validation, {len(sets.test)} test images"
    print(f"[INFO] {sets.title}: {sizes}")
    _, labels = sets.train.tensors
    unseen = set(labels[val_data.indices].tolist()) - set(labels[train_data.indices].tolist())
    if unseen:
        names = ", ".join(sets.classes[label] for label in sorted(unseen))
        warn(
            f"all images of {names} are kept for validation, so that they are not learned: add "
            "images, or change --val-split or --seed"
        )
