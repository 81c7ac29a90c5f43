"""KMNIST, or printed Hiragana in its place, in whole batches.

You can skip the code after load_dataset(), which reads and downloads files.
"""

import gzip
import socket
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.hub import download_url_to_file
from torchvision import datasets
from torchvision.transforms import ToTensor

# the classes in the order of their labels, and the modern character of each
HIRAGANA = dict(zip(datasets.KMNIST.classes, "おきすつなはまやれを", strict=True))

# the official server, then mirrors of it, and the SHA-256 of their files
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
# seconds to wait for a server, and the servers that failed in this run, with their errors
TIMEOUT = 10
failed_mirrors = {}


class KMNIST(datasets.KMNIST):
    """torchvision's KMNIST, from downloaded files or from the user's own in the same format.

    An item is an image, (1, 28, 28) float32 in [0, 1], white ink on black, and its label, an int
    from 0 to 9. Raises SystemExit with one line for a damaged file, ConnectionError for a missing
    one that cannot be downloaded.
    """

    name, title = "kmnist", "KMNIST"

    def __init__(self, root, train):
        datasets.VisionDataset.__init__(self, root, transform=ToTensor())
        self.train = train
        raw, split = Path(self.raw_folder), "train" if train else "t10k"
        self.data = read_file(raw / f"{split}-images-idx3-ubyte", shape=(28, 28))
        self.targets = read_file(raw / f"{split}-labels-idx1-ubyte").long()
        if len(self.data) != len(self.targets):
            sys.exit(
                f"[ERROR] {raw} holds {len(self.data)} images, but {len(self.targets)} labels "
                f"({split}): use image and label files that match"
            )

    def to(self, device):
        """Move the images, which stay uint8, and the labels to the device; return the dataset."""
        self.data, self.targets = self.data.to(device), self.targets.to(device)
        return self

    def __getitems__(self, indices):
        """Return a whole batch: images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64.

        A DataLoader calls this once per batch. Scales pixels as ToTensor does.
        """
        return self.data[indices].unsqueeze(1).float() / 255, self.targets[indices]


class PrintedHiragana(KMNIST):
    """KMNIST's ten characters in print: 60,000 training or 10,000 test images."""

    name, title = "printed", "printed Hiragana"

    def __init__(self, train):
        # drawing needs OpenCV, training on KMNIST does not
        from modules.printed import draw_images

        datasets.VisionDataset.__init__(self, transform=ToTensor())
        self.train = train
        num_images, seed = (60_000, 0) if train else (10_000, 1)
        images, labels = draw_images("".join(HIRAGANA.values()), num_images, seed)
        self.data, self.targets = torch.from_numpy(images), torch.from_numpy(labels)


def load_dataset(name, root):
    """Return the training set and the test set.

    name: `kmnist`, from the folder root/KMNIST/raw, downloaded if missing; `printed`; or `auto`,
    which is printed Hiragana, after a warning, where KMNIST cannot be downloaded.
    """
    if name != "printed":
        try:
            return KMNIST(root, train=True), KMNIST(root, train=False)
        except ConnectionError as error:
            if name == "kmnist":
                raise
            print(f"[WARNING] using printed Hiragana instead: {error}", file=sys.stderr)
    return PrintedHiragana(train=True), PrintedHiragana(train=False)


def load_test_images(name, root):
    """Return only the test set of `kmnist` or `printed`."""
    return PrintedHiragana(train=False) if name == "printed" else KMNIST(root, train=False)


def label_text(class_name):
    """Return a class name with its modern character: `き (ki)`."""
    return f"{HIRAGANA.get(class_name, '?')} ({class_name})"


def read_file(path, shape=()):
    """Read one of KMNIST's IDX files, plain or gzipped as path.gz; return (N, *shape) uint8.

    An IDX file starts with big-endian 32-bit numbers: 2051 for images or 2049 for labels, the
    number of items, and their shape. A byte for each pixel or label follows.
    """
    if not path.exists():
        path = path.with_name(f"{path.name}.gz")
    if not path.exists():
        download(path)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        header = np.frombuffer(content, ">u4", count=2 + len(shape))
        values = np.frombuffer(content, np.uint8, offset=header.nbytes).reshape(-1, *shape)
        if header.tolist() != [2049 + len(shape), len(values), *shape] or len(values) == 0:
            raise ValueError("the header does not fit")
        if not shape and values.max() >= len(HIRAGANA):
            raise ValueError("too many classes")
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError):
        sys.exit(
            f"[ERROR] {path} is damaged, or does not hold 28×28 images in ten classes: remove it "
            "to download KMNIST's, or choose another --data"
        )
    return torch.tensor(values)


def download(path):
    """Download one of KMNIST's gzipped files from the first mirror that works.

    Raises ConnectionError, which says why each mirror failed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(TIMEOUT)
    for mirror in MIRRORS:
        if mirror in failed_mirrors:
            continue
        print(f"[INFO] downloading {mirror}{path.name}...")
        try:
            # this verifies the checksum before it moves the file into place
            download_url_to_file(
                mirror + path.name, path, SHA256[path.stem], progress=sys.stderr.isatty()
            )
            return
        # a server can fail in many ways
        except Exception as error:
            failed_mirrors[mirror] = error
    # repr(): a server may have sent anything, line breaks included
    reasons = "; ".join(f"{mirror}: {error!r}" for mirror, error in failed_mirrors.items())
    raise ConnectionError(
        f"KMNIST is not in {path.parent} and could not be downloaded ({reasons}): put its four .gz "
        "files there, or choose another --data"
    )
