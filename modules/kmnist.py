"""KMNIST, as torchvision has it, from the first server that works; no file is overwritten."""

from modules.messages import UserError, in_terminal

import errno
import shutil
import socket
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

# in the order of the labels
CLASSES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
# the official server, then mirrors of it
MIRRORS = [
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST/",
    "https://web.archive.org/web/2024id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
]
TIMEOUT = 10  # seconds to wait for a server that sends nothing


class DownloadError(UserError):
    """KMNIST is not there and cannot be downloaded."""


def read_kmnist(root, split):
    """Return images, (N, 28, 28) uint8, and labels, (N,) int64, from the files in root/KMNIST/raw.

    split: `train` or `test`. Unpacks or downloads KMNIST if it is not there. Raises DownloadError,
    UserError for files that are not as they should be, OSError.
    """
    # here, because importing it takes as long as importing torch
    from torchvision.datasets import KMNIST

    raw = root / "KMNIST" / "raw"
    if not all((raw / name).with_suffix("").is_file() for name, _ in KMNIST.resources):
        unpack_or_download(KMNIST, raw)
    print(f"[INFO] loading {'training' if split == 'train' else 'test'} images from {raw}...")
    try:
        data = KMNIST(root, train=split == "train")
        images, labels = data.data, data.targets
        values = labels.unique().tolist()
        fits = images.shape == (len(labels), 28, 28) and values and values[-1] < 10
        found = f"images {tuple(images.shape)} and labels {values[:1]} to {values[-1:]}"
    except OSError:
        raise
    # torchvision raises errors of many kinds for damaged files
    except Exception as error:
        fits, found = False, " ".join(str(error).split()) or "damage"
    if not fits:
        start = raw / ("train" if split == "train" else "t10k")
        raise UserError(
            f"{start}-images-idx3-ubyte, {start}-labels-idx1-ubyte: expected images (N, 28, 28) "
            f"and N labels from 0 to 9, IDX files of bytes, but found {found}: if they are "
            "KMNIST's, remove the four files without .gz, to have it unpacked or downloaded again; "
            "for other classes, put pictures into train/CLASS and test/CLASS"
        )
    return images.numpy(), labels.numpy()


def unpack_or_download(KMNIST, raw):
    """Let torchvision's KMNIST fill the folder `raw`, with what is there, or from the mirrors.

    Raises UserError if other files are there, DownloadError, which says why each mirror failed.
    """
    from torchvision.datasets.utils import check_integrity

    official = [name for name, md5 in KMNIST.resources if check_integrity(raw / name, md5)]
    others = sorted(path.name for path in raw.glob("[!.]*") if path.name not in official)
    if others:
        names = ", ".join(name for name, _ in KMNIST.resources)
        raise UserError(
            f"{raw} holds {', '.join(others)}: expected {names} as KMNIST's makers offer them, or "
            "all four unpacked: remove what is damaged, and move other files (pictures of other "
            "classes go into train/CLASS and test/CLASS)"
        )
    # in another folder first: a file that is in `raw` is whole, and was not overwritten
    nearest = next(path for path in (raw, *raw.parents) if path.is_dir())
    with TemporaryDirectory(prefix=".kmnist-", dir=nearest) as folder:
        new = Path(folder, "KMNIST", "raw")
        new.mkdir(parents=True)
        for name in official:
            shutil.copy(raw / name, new)
        errors = []
        # with all four files, torchvision asks no server
        for mirror in MIRRORS if len(official) < 4 else [""]:
            if mirror:
                slow = f"if it takes too long, Ctrl-C, and put its four .gz files into {raw}"
                print(f"[INFO] downloading KMNIST (21 MB) from {mirror} ({slow})...")
            error = load_from(mirror, KMNIST, folder)
            if not error:
                break
            errors.append(error)
        else:
            raise DownloadError(
                f"KMNIST is not in {raw} and could not be downloaded ({'; '.join(errors)}): put "
                "its four .gz files there, or choose another --data"
            )
        raw.mkdir(parents=True, exist_ok=True)
        for path in new.iterdir():
            if path.name not in official:
                path.replace(raw / path.name)


def load_from(mirror, KMNIST, folder):
    """Let torchvision load KMNIST into a folder; return why it failed, or an empty text.

    Raises OSError if the disk is full.
    """
    KMNIST.mirrors = [mirror]
    # torchvision sets no time-out, and shows progress bars also where there is no terminal
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with nullcontext() if in_terminal() else redirect_stderr(StringIO()):
            KMNIST(folder, download=True)
    # a server can fail in many ways, and may have sent anything: hence repr()
    except Exception as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        cause = str(error).rpartition("got:")[2] or type(error).__name__
        return f"{mirror}: {' '.join(cause.split())!r}"
    finally:
        socket.setdefaulttimeout(timeout)
    return ""
