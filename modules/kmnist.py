"""KMNIST: its classes and its four files: downloaded, verified, read, never mixed with others."""

from modules.messages import UserError, in_terminal

import gzip
import hashlib
import socket
import zlib
from contextlib import suppress

import numpy as np
from torch.hub import download_url_to_file

# in the order of the labels
CLASSES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
# the official server, then mirrors of it
MIRRORS = [
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST/",
    "https://web.archive.org/web/2024id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
]
# KMNIST's files, which are gzipped: their names without .gz, and their SHA-256
SHA256 = {
    "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
}
TIMEOUT = 10  # seconds to wait for a server


class DownloadError(UserError):
    """KMNIST is not there and cannot be downloaded."""


def read_kmnist(root, split):
    """Return images, (N, 28, 28) uint8, and labels, (N,) int64, from the folder root/KMNIST/raw.

    split: `train` or `test`. Downloads what is missing of KMNIST. Raises UserError for files that
    are not as they should be, DownloadError.
    """
    folder, start = root / "KMNIST" / "raw", "train" if split == "train" else "t10k"
    # training needs all four files, prediction only two
    suffix = provide(folder, [name for name in SHA256 if name.startswith((start, "t10k"))])
    print(f"[INFO] loading {'training' if split == 'train' else 'test'} images from {folder}...")
    paths = [folder / f"{name}{suffix}" for name in SHA256 if name.startswith(start)]
    images, labels = (read_idx(path) for path in paths)
    fits = len(labels) > 0 and images.shape == (len(labels), 28, 28) and labels.ndim == 1
    if not fits or labels.max() >= len(CLASSES):
        values = f"{labels.min()} to {labels.max()}" if labels.size else "none"
        raise UserError(
            f"{folder}: expected {paths[0].name} of shape (N, 28, 28) and {paths[1].name} of shape "
            f"(N,) with values from 0 to 9, not {images.shape} and {labels.shape} with {values}"
        )
    return images, labels.astype(np.int64)


def provide(folder, names):
    """Download what is missing of the files `names`; return what the names end in: "" or .gz.

    Only beside other files of KMNIST, or none, it is downloaded: KMNIST's are never mixed with the
    user's own. Raises UserError, DownloadError.
    """
    plain = {name for name in SHA256 if (folder / name).is_file()}
    packed = {name for name in SHA256 if (folder / f"{name}.gz").is_file()}
    hashes = {n: hashlib.sha256((folder / f"{n}.gz").read_bytes()).hexdigest() for n in packed}
    own = {name for name in packed if hashes[name] != SHA256[name]}
    # torchvision leaves all files in both forms
    if plain.issuperset(names) and (len(plain) == 4 or not packed):
        return ""
    if packed.issuperset(names) and not plain and own in (set(), packed):
        return ".gz"
    # a download that was killed leaves a .partial file
    others = [path.name for path in folder.glob("[!.]*") if path.suffix != ".partial"]
    others = sorted(set(others) - {f"{name}.gz" for name in packed - own})
    if others:
        raise UserError(
            f"{folder} holds {', '.join(others)}: expected {', '.join(SHA256)}, all four plain or "
            "all four with .gz, and all of one dataset: add or rename yours, or remove what is not "
            "KMNIST's or is damaged, to download it again"
        )
    download(folder, [name for name in names if name not in packed])
    return ".gz"


def download(folder, names):
    """Download gzipped files of KMNIST, from the first mirror that works.

    Raises DownloadError, which says why each mirror failed.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    socket.setdefaulttimeout(TIMEOUT)
    errors = []
    for mirror in MIRRORS:
        print(f"[INFO] downloading KMNIST from {mirror} to {folder}...")
        try:
            for name in names:
                path = folder / f"{name}.gz"
                if not path.exists():
                    # this verifies the checksum before it moves the file into place
                    download_url_to_file(f"{mirror}{path.name}", path, SHA256[name], in_terminal())
            return
        # a server can fail in many ways, and may have sent anything: hence repr()
        except Exception as error:
            errors.append(f"{mirror}: {error!r}")

    # leave no empty folder behind
    for path in new_folders:
        with suppress(OSError):
            path.rmdir()
    raise DownloadError(
        f"KMNIST is not in {folder} and could not be downloaded ({'; '.join(errors)}): put its "
        "four .gz files there, or choose another --data"
    )


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
        if content[:3] != b"\0\0\x08":
            raise ValueError("another kind of file")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
        values = np.frombuffer(content, np.uint8, offset=4 + shape.nbytes)
        # a copy, because PyTorch wants to be able to write to it
        return values.reshape(shape).copy()
    except (gzip.BadGzipFile, zlib.error, EOFError, IndexError, ValueError) as error:
        raise UserError(
            f"{path} is damaged, or not an IDX file of bytes (uint8): if it is one of KMNIST's, "
            "remove it to download it again; otherwise, replace it or choose another --data"
        ) from error
