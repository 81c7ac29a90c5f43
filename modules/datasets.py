"""KMNIST, or synthetic Hiragana in its place, as a dataset in memory."""

from modules.cli import in_terminal

import gzip
import hashlib
import socket
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch.hub import download_url_to_file
from torch.utils.data import Dataset

# in the order of the labels
KMNIST_CLASSES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
# the official server, then mirrors of it, and the SHA-256 of KMNIST's files, which are gzipped
MIRRORS = [
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST/",
    "https://web.archive.org/web/2024id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
]
SHA256 = {
    "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
}
TIMEOUT = 10  # seconds to wait for a server


class ImageDataset(Dataset):
    """Images, (N, 28, 28) uint8, white ink on black, and their labels, (N,) int64, in memory."""

    classes = KMNIST_CLASSES

    def __init__(self, name, images, labels):
        self.name = name
        self.title = {"kmnist": "KMNIST", "synthetic": "synthetic Hiragana"}[name]
        self.images, self.labels = images, labels.long()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        """Return an image, (1, 28, 28) float32 in [0, 1], and its label; for a list, a batch."""
        return self.images[index].unsqueeze(-3) / 255, self.labels[index]

    # a DataLoader calls this, where it exists, once per batch instead of once per image
    __getitems__ = __getitem__


def load_dataset(name, root, train):
    """Return the training set or the test set.

    name: `kmnist`, from the folder root/KMNIST/raw, downloaded if it is empty; `synthetic`; or
    `auto`, which is synthetic Hiragana, after a warning, where KMNIST cannot be downloaded.
    """
    if name != "synthetic":
        try:
            return ImageDataset("kmnist", *read_kmnist(root, train))
        except ConnectionError as error:
            if name == "kmnist":
                raise
            print(f"[WARNING] using synthetic Hiragana instead: {error}", file=sys.stderr)

    from modules.synthetic import draw_images

    num_images, seed = (60_000, 0) if train else (10_000, 1)
    return ImageDataset("synthetic", *draw_images(num_images, seed))


def read_kmnist(root, train):
    """Return images, (N, 28, 28), and labels, (N,), both uint8, from the folder root/KMNIST/raw.

    Raises SystemExit with one line for files that are not as they should be, ConnectionError where
    KMNIST cannot be downloaded.
    """
    folder = root / "KMNIST" / "raw"
    # training needs all four files, prediction only two
    names = [name for name in SHA256 if train or name.startswith("t10k")]
    missing = [name for name in names if not find_file(folder, name)]
    if missing:
        check_folder(root, folder)
        download(folder, missing)

    print(f"[INFO] loading {'training' if train else 'test'} images from {folder}...")
    images, labels = (read_idx(find_file(folder, name)) for name in names[:2])
    fits = images.shape[1:] == (28, 28) and labels.shape == images.shape[:1] != (0,)
    if not fits or labels.max() > 9:
        values = f"{labels.min()} to {labels.max()}" if labels.size else "none"
        sys.exit(
            f"[ERROR] {folder}: {names[0]} holds an array of shape {images.shape} and {names[1]} "
            f"one of shape {labels.shape} with values from {values}: expected (N, 28, 28) and "
            "(N,) with values from 0 to 9"
        )
    return torch.tensor(images), torch.tensor(labels)


def check_exists(root):
    """Raise SystemExit if a folder is gone: KMNIST must not take the place of what it held."""
    # the default folder may be one that is still to be filled
    if not root.is_dir() and root != Path("data"):
        sys.exit(f"[ERROR] there is no dataset folder {root}: say where it is now with --data")


def find_file(folder, name):
    """Return the path of one of KMNIST's files, plain or gzipped, or None."""
    paths = folder / name, folder / f"{name}.gz"
    return next((path for path in paths if path.is_file()), None)


def read_idx(path):
    """Return the array in an IDX file, which may be gzipped.

    It starts with the bytes 0, 0, 8 (for uint8) and the number of dimensions. Their sizes follow,
    big-endian integers of 32 bits, and then the values. Raises SystemExit with one line.
    """
    try:
        content = path.read_bytes()
        # what a gzipped file starts with
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if content[:3] != b"\0\0\x08":
            raise ValueError("another kind of file")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape)
    except (gzip.BadGzipFile, zlib.error, EOFError, IndexError, ValueError):
        sys.exit(
            f"[ERROR] {path} is damaged, or not an IDX file of bytes: if it is one of KMNIST's, "
            "remove it to download it again; otherwise, replace it or choose another --data"
        )


def check_folder(root, folder):
    """Raise SystemExit if the folder `root` holds image files that are not KMNIST's.

    They are the user's own, in a wrong place or incomplete: nothing may be trained on in their
    place, or together with them.
    """
    patterns = [
        f"{depth}{name}" for depth in ("", "*/", "*/*/") for name in ("*ubyte*", "*.np[yz]")
    ]
    paths = sorted(path for pattern in patterns for path in root.glob(pattern))
    # a download that was killed leaves a .partial file
    own = [path for path in paths if path.suffix != ".partial" and not is_official(path, folder)]
    if own:
        found = ", ".join(f"{path}/" if path.is_dir() else str(path) for path in own)
        expected = ", ".join(str(folder / name) for name in SHA256)
        sys.exit(
            f"[ERROR] found {found}, but expected the four files {expected} (.gz may follow): "
            "rename or move yours, or choose another --data"
        )


def is_official(path, folder):
    """Return whether a file is one of KMNIST's, as it was downloaded to the folder."""
    if path.parent != folder or path.stem not in SHA256 or not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.stem]


def download(folder, names):
    """Download gzipped files of KMNIST, from the first mirror that works.

    Raises ConnectionError, which says why each mirror failed.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(TIMEOUT)
    names, errors = list(names), []
    for mirror in MIRRORS:
        try:
            while names:
                url, path = f"{mirror}{names[0]}.gz", folder / f"{names[0]}.gz"
                print(f"[INFO] downloading {url} to {folder}...")
                # this verifies the checksum before it moves the file into place
                download_url_to_file(url, path, SHA256[names[0]], progress=in_terminal())
                del names[0]
            return
        # a server can fail in many ways, and may have sent anything: hence repr()
        except Exception as error:
            errors.append(f"{mirror}: {error!r}")

    # leave no empty folder behind
    for path in new_folders:
        with suppress(OSError):
            path.rmdir()
    raise ConnectionError(
        f"KMNIST is not in {folder} and could not be downloaded ({'; '.join(errors)}): put its "
        "four .gz files there, or choose another --data"
    )
