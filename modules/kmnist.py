"""KMNIST: its classes, and its four files, downloaded, verified and never mixed with others."""

from modules.cli import in_terminal
from modules.errors import UserError

import hashlib
import socket
from contextlib import suppress

from torch.hub import download_url_to_file

# in the order of the labels
CLASSES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]
# the official server, then mirrors of it
MIRRORS = [
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/KMNIST/",
    "https://web.archive.org/web/2024id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
]
# the SHA-256 of KMNIST's files, which are gzipped
SHA256 = {
    "train-images-idx3-ubyte": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "train-labels-idx1-ubyte": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "t10k-images-idx3-ubyte": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "t10k-labels-idx1-ubyte": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
}
# the same, unpacked
PLAIN_SHA256 = {
    "train-images-idx3-ubyte": "7112ba9ec422d98de4885262d4a4dff14cc4fefb81c11ace8bf563a8255df5c3",
    "train-labels-idx1-ubyte": "2a16eeae62da984b8bd24fa32e31d47291f01dac3fe84d5594f304f71e7d374b",
    "t10k-images-idx3-ubyte": "76fbd229ce87db80dd281af5e6670de4ad0e42fb30a7bd643972994c47c1f42e",
    "t10k-labels-idx1-ubyte": "a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6",
}
TIMEOUT = 10  # seconds to wait for a server


class DownloadError(UserError):
    """KMNIST is not there and cannot be downloaded."""


def find_kmnist(root, train):
    """Return the paths of the training or test images and their labels, in root/KMNIST/raw.

    Downloads what is missing of KMNIST. Raises UserError for files that do not belong together,
    DownloadError.
    """
    folder = root / "KMNIST" / "raw"
    refuse_mix(folder)
    # training needs all four files, prediction only two
    missing = [n for n in SHA256 if (train or n.startswith("t10k")) and not find_file(folder, n)]
    if missing:
        refuse_other_files(root, folder)
        download(folder, missing)
    split = "train" if train else "t10k"
    return [find_file(folder, name) for name in SHA256 if name.startswith(split)]


def find_file(folder, name):
    """Return the path of one of the four files, plain or gzipped, or None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def is_official(path):
    """Return whether a file with the name of one of KMNIST's, gzipped or not, is that file."""
    name = path.name[:-3] if path.suffix == ".gz" else path.name
    if name not in SHA256 or not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() in (SHA256[name], PLAIN_SHA256[name])


def refuse_mix(folder):
    """Raise UserError if just some of the files are KMNIST's, or one of yours is there twice."""
    official, others = [], []
    for name in SHA256:
        plain, packed = folder / name, folder / f"{name}.gz"
        has_both = plain.is_file() and packed.is_file()
        if has_both and not (is_official(plain) and is_official(packed)):
            raise UserError(f"found {plain} and {packed}: remove the wrong one")
        path = find_file(folder, name)
        if path:
            (official if is_official(path) else others).append(path)
    if official and others:
        raise UserError(
            f"{others[0]} is not KMNIST's file, or is damaged, but {official[0]} is KMNIST's: "
            "remove the wrong ones (KMNIST's are downloaded again), or choose another --data"
        )


def refuse_other_files(root, folder):
    """Raise UserError if there are image files that are not KMNIST's where KMNIST is looked for.

    They are the user's own, in a wrong place or incomplete: nothing may be trained on in their
    place, or together with them. Folders of other datasets, such as root/MNIST, are left alone.
    """
    places = [root, root / "raw", root / "KMNIST", folder, *folder.glob("*/")]
    paths = [path for place in places for path in sorted(place.glob("*"))]
    suspects = [p for p in paths if "ubyte" in p.name or p.suffix in (".npy", ".npz")]
    # a download that was killed leaves a .partial file
    others = [
        path
        for path in suspects
        if path.suffix != ".partial" and not (path.parent == folder and is_official(path))
    ]
    if others:
        found = ", ".join(f"{path}/" if path.is_dir() else str(path) for path in others)
        expected = ", ".join(str(folder / name) for name in SHA256)
        raise UserError(
            f"found {found}, but expected the four files {expected} (.gz may follow): "
            "rename or move yours, or choose another --data"
        )


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
