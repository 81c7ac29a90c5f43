"""model.pth, written whole and loaded as plain data.

A reader of the tutorial may skip this module: what a checkpoint holds is in train.py.
"""

import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import torch
from torchvision.datasets import KMNIST

from modules.lenet import LeNet

# several times the size of LeNet's weights and optimizer state, in bytes
MAX_SIZE = 50 * 2**20


def save_checkpoint(path, checkpoint):
    """Save the dict `checkpoint` to `path`; after a crash, the old file or the new one is there.

    Raises OSError, naming the path.
    """
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            # on the disk before it gets its name: the power may fail at any time
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        # where the disk is full, the error names no file
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path):
    """Return the dict that train.py saved at `path`, its tensors on the CPU.

    A file that is only LeNet's state dict will do, but cannot be resumed. Raises SystemExit with
    one line if the file is missing, damaged or something else.
    """
    if not path.exists():
        sys.exit(f"[ERROR] no model at {path}: run train.py first, or choose another --model")
    try:
        # torch.load() would decompress data of any size, and verifies no checksum
        with zipfile.ZipFile(path) as archive:
            if path.stat().st_size > MAX_SIZE or any(p.compress_type for p in archive.infolist()):
                raise ValueError("too large")
            if archive.testzip():
                raise ValueError("damaged")
        # weights_only: load plain data, and never run code that the file holds
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "model" not in checkpoint:
            checkpoint = {"model": checkpoint, "classes": KMNIST.classes, "dataset": "kmnist"}
        # raises an error where layers or shapes differ
        LeNet(numChannels=1, classes=len(checkpoint["classes"])).load_state_dict(
            checkpoint["model"]
        )
        # the dataset folder, or the default where that is gone
        root = checkpoint.get("data", "data")
        checkpoint["data"] = root if Path(root).is_dir() else "data"
    except Exception as error:
        sys.exit(
            f"[ERROR] {path} is damaged or no checkpoint of this LeNet ({type(error).__name__}): "
            "train again, or choose another --model"
        )
    return checkpoint
