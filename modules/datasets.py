"""KMNIST, fetched and checked, and printed Hiragana, which needs no download."""

import errno
import gzip
import hashlib
import math
import socket
import sys
import zlib
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import torch
from torch.hub import download_url_to_file
from torchvision import datasets
from torchvision.transforms import ToTensor

from modules.files import beside
from modules.files import remove_leftovers
from modules.files import write_whole

# the classes in the order of their labels, and the modern character of each
HIRAGANA = dict(zip(datasets.KMNIST.classes, "おきすつなはまやれを", strict=True))

# the SHA-256 of each file as it is downloaded, packed by gzip
SHA256 = {
    "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
}
# the maker's server, then copies of it
MIRRORS = [
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST/",
    "https://web.archive.org/web/2024id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
]
# seconds without a byte after which a server is given up
PATIENCE = 10
# what was of no use in this run, and why; a server among them is not asked again
failures = {}

DISK_ERRORS = {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class KMNIST(datasets.KMNIST):
    """torchvision's KMNIST, its files checked before use and fetched where they can be had.

    An item is an image, (1, 28, 28) float32 in [0, 1], white ink on black, and its label, an int
    from 0 to 9. Files with any number of other images in KMNIST's format will do too. Raises
    SystemExit with one line for files that are damaged, and OSError, which says why and what to do,
    where those that are missing cannot be had.
    """

    name, title = "kmnist", "KMNIST"

    def __init__(self, root, train):
        datasets.VisionDataset.__init__(self, root, transform=ToTensor())
        self.train = train
        try:
            self.download()
        except OSError as error:
            # what the system says has a strerror, what fetch() says is text alone
            if error.strerror:
                reason, advice = f"could not be put there ({error.strerror})", ""
            else:
                reason, advice = error, "put its four .gz files there by hand, or "
            raise OSError(
                f"KMNIST is not in {self.raw_folder} and {reason}: {advice}name another folder "
                "with --data"
            ) from error
        self.data, self.targets = self._load_data()
        if len(self.data) != len(self.targets):
            images, labels = self.files()
            sys.exit(
                f"[ERROR] {images} holds {len(self.data)} images, but {labels.name} "
                f"{len(self.targets)} labels: put files there that belong together"
            )

    def to(self, device):
        """Move all images, which stay uint8, and labels to where the network computes."""
        self.data, self.targets = self.data.to(device), self.targets.to(device)

    def checksum(self):
        """Return a number that other images or labels would not have."""
        return zlib.crc32(self.targets.cpu().numpy(), zlib.crc32(self.data.cpu().numpy()))

    def __getitems__(self, indices):
        """Return a batch at once: images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64.

        These are the numbers that ToTensor gives image by image.
        """
        return self.data[indices].unsqueeze(1).float() / 255, self.targets[indices]

    def files(self):
        """Return the paths of the images and of the labels."""
        split = "train" if self.train else "t10k"
        return [Path(self.raw_folder, name) for name in SHA256 if name.startswith(split)]

    def download(self):
        """Put in place a file that is missing, or that is KMNIST's own but cut short."""
        for path in self.files():
            remove_leftovers(path)
            fault = find_fault(path)
            if not fault:
                continue
            try:
                content = fetch(path)
            except OSError:
                if not path.exists():
                    raise
                content = None
            # a file that is not the beginning of KMNIST's may be the user's own: leave it alone
            if path.exists() and not (content and content.startswith(path.read_bytes())):
                sys.exit(
                    f"[ERROR] {path} {fault}: put a whole file there, or remove it to have "
                    "KMNIST's own downloaded"
                )
            write_whole(path, content)


class PrintedHiragana(KMNIST):
    """KMNIST's ten characters in print: 60,000 images to train on, or 10,000 to test on."""

    name, title = "printed", "printed Hiragana"

    def __init__(self, train):
        # printing alone needs OpenCV, so training on KMNIST works without
        from modules.printed import draw_images

        num_images, seed = (60_000, 0) if train else (10_000, 1)
        images, labels = draw_images("".join(HIRAGANA.values()), num_images, seed)
        datasets.VisionDataset.__init__(self, transform=ToTensor())
        self.train, self.data = train, torch.from_numpy(images)
        self.targets = torch.from_numpy(labels).long()


def as_is(batch):
    """Return a batch as __getitems__() made it: for a DataLoader, which would collate images."""
    return batch


def load_dataset(name, root):
    """Return the images to train on, those to test on, and a warning, which is None if all is well.

    name: `kmnist`, found in root/KMNIST/raw or put there; `printed`; or `auto`, which gives printed
    Hiragana and a warning where KMNIST cannot be had. Raises SystemExit with one line.
    """
    warning = None
    if name != "printed":
        try:
            return KMNIST(root, train=True), KMNIST(root, train=False), None
        except OSError as error:
            if name == "kmnist":
                sys.exit(f"[ERROR] {error}, or use --dataset printed")
            warning = f"[WARNING] this is printed Hiragana, because {error}"
    return PrintedHiragana(train=True), PrintedHiragana(train=False), warning


def load_test_images(name, root):
    """Return the images to test on of `kmnist`, or `printed`; raise SystemExit with one line."""
    try:
        return PrintedHiragana(train=False) if name == "printed" else KMNIST(root, train=False)
    except OSError as error:
        sys.exit(f"[ERROR] {error}")


def find_fault(path):
    """Return what is wrong with one of KMNIST's four files, in words, or None where nothing is.

    An IDX file starts with big-endian 32-bit numbers: 2051 and the count, rows and columns of
    images, or 2049 and the count of labels. A byte for each pixel or label follows.
    """
    images = "images" in path.name
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise OSError(errno.EINVAL, "not a file")
        magic, *counts = np.fromfile(path, ">u4", count=4 if images else 2).tolist() or [0]
        if len(counts) < (3 if images else 1):
            return f"ends after {size} bytes, within its header"
        if magic != (2051 if images else 2049):
            return f"is no file of {'images' if images else 'labels'} in KMNIST's format"
        if images and counts[1:] != [28, 28]:
            return f"holds images of {counts[1]}×{counts[2]} pixels, not 28×28"
        if not counts[0]:
            return "holds nothing"
        expected = 4 + 4 * len(counts) + math.prod(counts)
        if size != expected:
            return f"has {size} bytes, where its header asks for {expected}"
        if not images and np.fromfile(path, np.uint8, offset=8).max() > 9:
            return "holds labels above 9"
        return None
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        sys.exit(
            f"[ERROR] {path} cannot be read ({error.strerror}): name another folder with --data"
        )


def fetch(path):
    """Return what the file `path` of KMNIST's holds, from a .gz file beside it or from a mirror.

    Only what has the right SHA-256 counts. Raises OSError, naming all that was tried, if none has.
    """
    archive, sha256 = path.with_name(f"{path.name}.gz"), SHA256[path.name]
    if archive.is_file():
        try:
            packed = archive.read_bytes()
            content = gzip.decompress(packed)
        except (OSError, EOFError, zlib.error) as error:
            failures[archive] = f"damaged ({error})"
        else:
            if hashlib.sha256(packed).hexdigest() == sha256:
                return content
            sys.exit(
                f"[ERROR] {archive} is not KMNIST's (its SHA-256 differs): unpack it to use it all "
                "the same, or remove it to have KMNIST's own downloaded"
            )

    for mirror in MIRRORS:
        if mirror in failures:
            continue
        url = mirror + archive.name
        print(f"[INFO] downloading {url}...")
        try:
            check_answer(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside(path) as temporary:
                download_url_to_file(url, temporary, sha256, progress=sys.stderr.isatty())
                return gzip.decompress(temporary.read_bytes())
        # a server can break the rules in many ways
        except Exception as error:
            if getattr(error, "errno", None) in DISK_ERRORS:
                raise
            failures[mirror] = _describe(error)
    reasons = {}
    for place, reason in failures.items():
        reasons.setdefault(reason, []).append(str(place))
    tried = "; ".join(f"{', '.join(places)}: {reason}" for reason, places in reasons.items())
    raise OSError(f"could not be downloaded ({tried})")


def _describe(error):
    """Return in a few words why a download failed."""
    # torch reports a wrong checksum as a RuntimeError
    if type(error) is RuntimeError:
        return "not KMNIST's file, or not the whole of it"
    cause = error.reason if type(error) is URLError else error
    text = getattr(cause, "strerror", None) or str(cause) or f"no answer in {PATIENCE} s"
    return "".join(filter(str.isprintable, text))[:100]


def check_answer(url):
    """Raise an error unless a server answers in time.

    A socket's limit is for each of a server's addresses, and does not cover finding them.
    """
    socket.setdefaulttimeout(PATIENCE)
    answer = Future()

    def ask():
        try:
            answer.set_result(urlopen(url).close())
        except Exception as error:
            answer.set_exception(error)

    # the program may end without waiting for a daemon
    Thread(target=ask, daemon=True).start()
    answer.result(timeout=PATIENCE)


def label_text(class_name, encoding="utf-8"):
    """Return a class name with its character, `き (ki)`, or alone where the encoding lacks it."""
    with suppress(KeyError, UnicodeEncodeError):
        HIRAGANA[class_name].encode(encoding)
        return f"{HIRAGANA[class_name]} ({class_name})"
    return class_name
