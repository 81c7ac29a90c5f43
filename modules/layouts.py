"""What a dataset folder holds, and what is said if that is not as expected."""

from modules.messages import UserError, warn

from os.path import realpath
from pathlib import Path


def visible(folder):
    """Return the paths in a folder, sorted, without hidden ones."""
    return sorted(folder.glob("[!.]*"))


def holds(name, root):
    """Return whether a folder holds the dataset `kmnist`, or `pictures`."""
    if name == "kmnist":
        return (root / "KMNIST" / "raw").is_dir()
    return (root / "train").is_dir() or (root / "test").is_dir()


def find_dataset(root, is_given=True):
    """Return what a folder holds: `pictures` or `kmnist`, also where that will be downloaded.

    is_given: the user has named this folder. Raises UserError if it holds something else.
    """
    if holds("pictures", root):
        return "pictures"
    if is_given:
        # KMNIST may be downloaded to an empty folder, or beside datasets of torchvision, X/raw
        others = [path for path in visible(root) if not (path / "raw").is_dir()]
        is_free = root.is_dir() and not others
    else:
        # KMNIST may be downloaded to `data`, unless files like its own are there, in a wrong place
        places = [root / place for place in (".", "raw", "KMNIST")]
        is_free = not any(path for place in places for path in place.glob("*ubyte*"))
    if is_free or holds("kmnist", root):
        return "kmnist"
    raise not_as_expected(root)


def not_as_expected(root, found=None):
    """Return a UserError, which names what is in a folder, and what to do."""
    if not root.exists():
        return UserError(f"{root} does not exist: check the path, or choose another --data")
    found = found or f"holds {some([path.name for path in visible(root)])}"
    download = "; or let train.py --dataset kmnist download KMNIST to it"
    return UserError(
        f"{root} {found if root.is_dir() else 'is a file'}, but KMNIST/raw, or pictures in "
        f"train/CLASS and test/CLASS, are expected: {advice(Path(realpath(root)))}"
        f"{download if root.is_dir() else ''}"
    )


def advice(root):
    inside, is_part = visible(root), root.name in ("train", "test", "KMNIST", "raw")
    for path in [*inside, *([root.parent, root.parent.parent] if is_part else [])]:
        if holds("kmnist", path) or holds("pictures", path):
            return f"try --data {path}"
    names = " ".join(path.name for path in [*inside, *root.glob("*/*")])
    if "emnist" in names:
        return "save the images as picture files in such folders: their classes are not KMNIST's"
    if "kmnist" in names or "ubyte" in names:
        return "put KMNIST's four files, whose names end in -ubyte.gz, into KMNIST/raw"
    return "name folders like this, and put picture files, such as .png, into them"


def some(names):
    """Return the first of several names as text."""
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "nothing"


def warn_of_pixels(folder, images):
    """Warn of images, (N, 28, 28) uint8, that cannot be meant to be white on black."""
    if images.max() <= 1:
        warn(f"{folder}: no pixel is above {images.max()}, but pixels from 0 to 255 are expected")
    elif images.mean() > 127:
        warn(
            f"{folder}: the images are mostly light (mean {images.mean():.0f} of 255), but white "
            "ink on black is expected"
        )
