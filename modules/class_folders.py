"""Pictures in class folders, as torchvision's ImageFolder has them."""

from modules.layouts import not_as_expected, some, visible, warn_of_pixels
from modules.messages import UserError, progress_bar, warn
from modules.pictures import find_pictures_in, read_picture
from modules.preprocess import find_character

from collections import Counter
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from torchvision.datasets import ImageFolder


class ClassFolders(ImageFolder):
    """ImageFolder of folder/CLASS/*: `samples` are pairs of a path and a label.

    classes: names in the order of the labels; a folder of another name raises UserError. Without
    them, they are the sorted names of the folders.
    """

    def __init__(self, folder, classes=None):
        self.classes = classes
        super().__init__(folder, allow_empty=True)

    def find_classes(self, directory):
        folders = [path.name for path in visible(Path(directory)) if path.is_dir()]
        # a Mac may write a letter and its accent as two characters, and adds a folder to a ZIP file
        names = {name: normalize("NFC", name) for name in folders if name != "__MACOSX"}
        classes = self.classes or sorted(set(names.values()))
        unknown = [name for name in names if names[name] not in classes]
        if unknown:
            raise UserError(
                f"{directory} has {some(unknown)}, but the classes are {some(classes)}: rename or "
                "move what is no class, or choose another --data"
            )
        return classes, {folder: classes.index(name) for folder, name in names.items()}

    @staticmethod
    def make_dataset(directory, class_to_idx, **options):
        # ImageFolder's own would follow links in a circle
        folders = [(Path(directory, name), label) for name, label in class_to_idx.items()]
        return [(path, label) for folder, label in folders for path in find_pictures_in(folder)]


def list_classes(root):
    """Return the names of the classes, the folders in root/train. Raises UserError."""
    train, test = (
        ClassFolders(path).classes if path.is_dir() else []
        for path in (root / "train", root / "test")
    )
    if not train or not test:
        raise not_as_expected(root)
    if len(train) == 1:
        raise UserError(f"{root / 'train'} holds {train[0]} alone, but two classes are needed")
    return train


def read_pictures(folder, classes, num=None):
    """Return images, (N, 28, 28) uint8, and labels, (N,) int64; warn of what cannot be read.

    num: how many to read, in random order; without it, all are read, in the order of the classes.
    Raises UserError if there is none, OSError if the disk or the network fails.
    """
    samples = ClassFolders(folder, classes).samples if folder.is_dir() else []
    if not samples:
        raise not_as_expected(folder.parent)
    if num:
        samples = [samples[i] for i in torch.randperm(len(samples))]
    number = min(num or len(samples), len(samples))
    split = "training" if folder.name == "train" else "test"
    unused = [path.name for path in visible(folder.parent) if path.name.startswith("val")]
    note = f" ({', '.join(unused)} is not used)" if unused else ""
    print(f"[INFO] loading {number} {split} images from {folder}{note}...")
    nested = [path.relative_to(folder) for path, _ in samples]
    nested = [path for path in nested if len(path.parts) > 2]
    if nested:
        inside, name = nested[0].parent, nested[0].parts[0]
        warn(f"{len(nested)} pictures are in subfolders: those in {inside} are of the class {name}")

    images, labels, is_unchanged, reasons = [], [], [], Counter()
    for path, label in progress_bar(samples, "reading"):
        try:
            picture = read_picture(path)
            images.append(find_character(picture, keep_28x28=True)[0])
            labels.append(label)
            is_unchanged.append(picture.size == images[-1].shape)
        except UserError as error:
            warn(f"{path} is left out: {error}")
            reasons[str(error)] += 1
        if len(images) == number:
            break
    if sum(reasons.values()) > 1:
        counts = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
        warn(f"{sum(reasons.values())} of {len(samples)} pictures are left out ({counts})")
    if not images:
        raise UserError(
            f"none of {len(samples)} pictures in {folder} can be read: choose another --data"
        )
    images, labels = np.array(images), np.array(labels, np.int64)
    # other pictures have been brought to white ink on black
    if split == "training" and any(is_unchanged):
        warn_of_pixels(folder, images[is_unchanged])
    return images, labels
