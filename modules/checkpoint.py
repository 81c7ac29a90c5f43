"""model.pth: written whole, and loaded as plain data. train.py shows what it holds."""

from modules.datasets import KMNIST_CLASSES
from modules.lenet import LeNet

import errno
import os
import sys
import time
import zipfile
from io import BytesIO

import torch

# in bytes, about ten times the size of LeNet's weights and optimizer state
MAX_SIZE = 50 * 2**20


def save_checkpoint(path, checkpoint):
    """Save the dict `checkpoint`; a crash leaves the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            sync(file)
        replace(partial, path)
    except OSError as error:
        # where the disk is full, the error names no file
        error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def sync(file):
    """Write to the disk before the file replaces another, in case the power fails."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        # some network drives cannot do it
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def replace(source, target):
    """Move a file into place.

    Tries for two seconds: Windows refuses while a virus scanner or an indexer reads the old file.
    """
    deadline = time.monotonic() + 2
    while True:
        try:
            return source.replace(target)
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def load_checkpoint(path):
    """Return the dict that train.py saved at `path`, its tensors on the CPU.

    A file that is only LeNet's state dict also loads, but cannot be resumed. Raises SystemExit with
    one line if the file is missing, damaged or something else, OSError if it cannot be read.
    """
    if not path.exists():
        sys.exit(f"[ERROR] no model at {path}: run train.py first, or choose another --model")
    try:
        # torch.load() would decompress data of any size, and verifies no checksum
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_SIZE or archive.testzip():
                raise ValueError("too large, or damaged")
        # weights_only: load plain data, and never run code that the file holds
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "model" not in checkpoint:
            checkpoint = {"model": checkpoint, "classes": KMNIST_CLASSES, "data": "data"}
            checkpoint["settings"] = {"dataset": "kmnist"}
        # raises an error where layers or shapes differ
        LeNet(1, len(checkpoint["classes"])).load_state_dict(checkpoint["model"])
        if checkpoint["settings"]["dataset"] not in ("kmnist", "synthetic"):
            raise ValueError("from another version of this project")
        return checkpoint
    except OSError:
        raise
    except Exception:
        sys.exit(
            f"[ERROR] {path} is damaged or not a checkpoint of this LeNet: "
            "train again, or choose another --model"
        )
