"""What is trained on: KMNIST, a folder of your own pictures, or synthetic Hiragana, in memory."""

from modules.kmnist import CLASSES, DownloadError, read_kmnist
from modules.messages import UserError, progress_bar, warn
from modules.pictures import is_picture, read_picture

import hashlib
import warnings
from collections import Counter
from os.path import realpath
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import torch
from torch.utils.data import TensorDataset

# what random_split() says of an empty part, check_split() says in one line
warnings.filterwarnings("ignore", "Length of split at index")


class Dataset(NamedTuple):
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
    """Return a Dataset: `kmnist`, `pictures`, `synthetic`, or with `auto` what the folder holds.

    KMNIST is downloaded to folder/KMNIST/raw if it is not there; pictures are in folder/train/CLASS
    and folder/test/CLASS. Without a folder, it is `data`, and `auto` draws synthetic Hiragana where
    KMNIST cannot be downloaded. Raises UserError.
    """
    root, is_chosen = Path(folder or "data"), bool(folder) or name != "auto"
    if name == "auto":
        name = find_dataset(root, is_given=bool(folder))
    try:
        return read_dataset(name, root)
    except DownloadError as error:
        # nothing takes the place of what the user has asked for
        if is_chosen:
            raise
        warn(f"using synthetic Hiragana instead: {error}")
        return read_dataset("synthetic", root)


def find_dataset(root, is_given=True):
    """Return what a folder holds: `pictures` or `kmnist`, also where that will be downloaded."""
    if has_pictures(root):
        return "pictures"
    if is_given:
        # KMNIST may be downloaded to an empty folder, or beside datasets of torchvision, X/raw
        others = [path for path in visible(root) if not (path / "raw").is_dir()]
        is_free = root.is_dir() and not others
    else:
        # KMNIST may be downloaded to `data`, unless files like its own are there, in a wrong place
        places = [root / place for place in (".", "raw", "KMNIST")]
        is_free = not any(path for place in places for path in place.glob("*ubyte*"))
    if is_free or has_kmnist(root):
        return "kmnist"
    download = "" if root.is_file() else "; or let train.py --dataset kmnist download KMNIST to it"
    raise UserError(
        f"{root} {what_is_in(root)}, but KMNIST/raw, or pictures in train/CLASS and test/CLASS, "
        f"are expected: {likely_slip(root)}{download}"
    )


def has_kmnist(root):
    return (root / "KMNIST" / "raw").is_dir()


def has_pictures(root):
    return (root / "train").is_dir() or (root / "test").is_dir()


def read_dataset(name, root):
    """Return the Dataset `kmnist`, `pictures` or `synthetic`."""
    classes = list_classes(root) if name == "pictures" else CLASSES
    images, labels = read_images(name, root, "train", classes)
    # KMNIST's files may lack a class
    needed = classes if name == "pictures" else []
    check_images(root, images, labels, needed)
    test_images, test_labels = read_images(name, root, "test", classes)

    checksum = hashlib.sha256(labels)
    # the pixels of synthetic Hiragana can differ slightly from one processor to another
    checksum.update(b"" if name == "synthetic" else images)
    titles = {"kmnist": "KMNIST", "synthetic": "synthetic Hiragana"}
    title = titles.get(name, f"{len(classes)} classes of pictures")
    train = TensorDataset(to_input(images), torch.tensor(labels))
    test = TensorDataset(to_input(test_images), torch.tensor(test_labels))
    return Dataset(name, title, classes, realpath(root), checksum.hexdigest(), train, test)


def to_input(images):
    """Return images, (..., 28, 28) uint8, as the network takes them: scaled to [0, 1].

    Returns (..., 1, 28, 28) float32: unsqueeze() adds the dimension of the channel.
    """
    return torch.as_tensor(images).unsqueeze(-3) / 255


def read_images(name, root, split, classes):
    """Return the images, (N, 28, 28) uint8, of `train` or `test`, and their labels, (N,) int64."""
    if name == "pictures":
        return read_pictures(list_pictures(root / split, classes), root / split)
    if name == "kmnist":
        return read_kmnist(root, split)
    # this needs OpenCV, which training on KMNIST does not
    from modules.synthetic import draw_images

    number, seed = (60_000, 0) if split == "train" else (10_000, 1)
    images, labels = draw_images(number, seed)
    return images.numpy(), labels.numpy()


def load_test_images(checkpoint, folder=None, num=None):
    """Return random test images, (N, 1, 28, 28) float32 in [0, 1], and their labels, (N,) int64.

    checkpoint: of the model to test; folder: where they are, if not where the model's were; num:
    how many, or all of them. Raises UserError.
    """
    name, classes = checkpoint["dataset"], checkpoint["classes"]
    root = Path(folder or checkpoint["data"])
    if name == "auto":
        # nothing else is known of a file that is just a state dict
        dataset = load_dataset(folder=folder)
        name, root = dataset.name, Path(dataset.folder)
    elif folder:
        # it may hold both
        name = "kmnist" if has_kmnist(root) and name != "pictures" else find_dataset(root)
    elif name == "kmnist" and not has_kmnist(root):
        warn(f"KMNIST is not in {root}, where the model found it: using the folder data")
        root = Path("data")

    if name == "pictures":
        pictures = list_pictures(root / "test", classes)
        # read no more than will be shown
        chosen = torch.randperm(len(pictures))[:num]
        images, labels = read_pictures([pictures[i] for i in chosen], root / "test")
    elif classes == CLASSES:
        images, labels = read_images(name, root, "test", classes)
        chosen = torch.randperm(len(labels))[:num].numpy()
        images, labels = images[chosen], labels[chosen]
    else:
        raise UserError(f"{root} has other classes ({', '.join(CLASSES)}) than the model")
    return to_input(images), torch.tensor(labels)


def list_classes(root):
    """Return the names of the classes, the folders in root/train. Raises UserError."""
    train, test = (class_folders(root / split) for split in ("train", "test"))
    classes = sorted({class_name(path) for path in train})
    if len(classes) < 2 or not test:
        found = [*(f"train/{name}" for name in classes), *(f"test/{path.name}" for path in test)]
        what = f"has {some(found)}" if found else what_is_in(root)
        raise UserError(
            f"{root} {what}, but pictures in train/CLASS and test/CLASS, of two classes or more, "
            f"are expected: {likely_slip(root)}"
        )
    return classes


def class_folders(folder):
    return [path for path in visible(folder) if path.is_dir() and path.name != "__MACOSX"]


def class_name(path):
    # a Mac may write a letter and its accent, or a kana and its mark, as two characters
    return normalize("NFC", path.name)


def list_pictures(folder, classes):
    """Return the pictures in the folders of the classes: pairs of a path and a label.

    Raises UserError if there is none, or a folder of another class.
    """
    from torchvision.datasets.folder import make_dataset

    folders = class_folders(folder)
    unknown = [path.name for path in folders if class_name(path) not in classes]
    if unknown:
        raise UserError(
            f"{folder} has {some(unknown)}, but the classes are {some(classes)}: rename or move "
            "what is no class, or choose another --data"
        )
    labels = {path.name: classes.index(class_name(path)) for path in folders}
    options = {"is_valid_file": lambda path: is_picture(path, folder), "allow_empty": True}
    pictures = make_dataset(str(folder), labels, **options) if labels else []
    if not pictures:
        raise UserError(
            f"{folder} {what_is_in(folder)}, but pictures in CLASS are expected: "
            f"{likely_slip(folder.parent)}"
        )
    return pictures


def read_pictures(pictures, folder):
    """Return images, (N, 28, 28) uint8, and labels, (N,) int64; warn of what cannot be read."""
    # this needs OpenCV
    from modules.preprocess import find_character

    split = "training" if folder.name == "train" else "test"
    unused = [path.name for path in visible(folder.parent) if path.name.startswith("val")]
    note = f" ({', '.join(unused)} is not used)" if unused else ""
    print(f"[INFO] loading {len(pictures)} {split} images from {folder}{note}...")
    images, labels, reasons = [], [], Counter()
    for path, label in progress_bar(pictures, "reading"):
        try:
            images.append(find_character(read_picture(path), keep_28x28=True)[0])
            labels.append(label)
        except UserError as error:
            warn(f"{path} is left out: {error}")
            reasons[str(error)] += 1
    if len(pictures) - len(images) > 1:
        counts = "; ".join(f"{number}: {reason}" for reason, number in reasons.most_common())
        warn(f"{len(pictures) - len(images)} of {len(pictures)} pictures are left out ({counts})")
    if not images:
        raise UserError(
            f"none of {len(pictures)} pictures in {folder} can be read: choose another --data"
        )
    return np.array(images), np.array(labels)


def check_images(root, images, labels, classes):
    """Refuse a class without images; warn of images that the network would not learn from."""
    empty = [f"train/{name}" for label, name in enumerate(classes) if label not in labels]
    if empty:
        raise UserError(f"{root} has no picture for training in {some(empty)}: {likely_slip(root)}")
    if images.max() <= 1:
        warn(f"{root}: no pixel is above {images.max()}, but pixels from 0 to 255 are expected")
    elif images.mean() > 127:
        warn(
            f"{root}: the images are mostly light (mean {images.mean():.0f} of 255), but white ink "
            "on black is expected"
        )


def check_split(train_data, val_data, classes):
    """Refuse a random split without images; warn of classes that are in validation alone."""
    if not train_data or not val_data:
        raise UserError("no image is left for training, or for validation: change --val-split")
    labels = train_data.dataset.tensors[1]
    unseen = set(labels[val_data.indices].tolist()) - set(labels[train_data.indices].tolist())
    if unseen:
        names = ", ".join(classes[label] for label in sorted(unseen))
        warn(
            f"all images of {names} are kept for validation, so that they are not learned: add "
            "images, or change --val-split or --seed"
        )


def visible(folder):
    """Return the paths in a folder, sorted, without hidden ones."""
    return sorted(folder.glob("[!.]*"))


def some(names):
    """Return the first of several names as text."""
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "nothing"


def what_is_in(root):
    if root.is_dir():
        return f"holds {some([path.name for path in visible(root)])}"
    return "is a file" if root.exists() else "does not exist"


def likely_slip(root):
    """Return what to do about a folder that is not laid out as a dataset."""
    root = Path(realpath(root))
    inside, is_part = visible(root), root.name in ("train", "test", "KMNIST", "raw")
    for path in [*inside, *([root.parent, root.parent.parent] if is_part else [])]:
        if has_kmnist(path) or has_pictures(path):
            return f"try --data {path}"
    if root.suffix.lower() == ".zip":
        return "unpack it, and give the folder"
    if any("ubyte" in path.name for path in [*inside, *root.glob("*/*")]):
        return "put such files into KMNIST/raw"
    renamed = []
    for path in inside:
        split = "train" if path.name.lower().startswith("train") else "test"
        is_split = path.is_dir() and path.name.lower().startswith((split, "val"))
        if is_split and not (root / split).is_dir():
            renamed.append(f"{path.name} to {split}")
    if renamed:
        return f"rename {' and '.join(renamed)}"
    for path in inside:
        if any(is_picture(file, root) for file in [path, *visible(path)]):
            return "put the pictures of each class into folders of its own in train and test"
        if path.suffix.lower() in (".zip", ".csv"):
            return f"save what {path.name} holds as picture files"
    if any(path.is_file() and not path.suffix for path in root.glob("t*/*/*")):
        return "let the names of pictures end in their kind, such as .png"
    return "add what is missing, or choose another --data"
