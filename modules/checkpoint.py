"""model.pth, written whole and loaded as plain data.

You can skip this module: train.py shows what a checkpoint holds.
"""

import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import torch
from torchvision.datasets import KMNIST

from modules.lenet import LeNet

# in bytes, about ten times the size of LeNet's weights and optimizer state
MAX_SIZE = 50 * 2**20


def save_checkpoint(path, checkpoint):
    """Save the dict `checkpoint` to `path`: a crash leaves the old file or the new one.

    Raises OSError, naming the path.
    """
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            # write to the disk before renaming, in case the power fails
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

    A file that is only LeNet's state dict also loads, but cannot be resumed. Raises SystemExit with
    one line if the file is missing, damaged or something else, OSError if it cannot be read.
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
        # the dataset folder, or the default if it is gone
        root = checkpoint.get("data", "data")
        checkpoint["data"] = root if Path(root).is_dir() else str(Path("data").resolve())
    except OSError:
        raise
    except Exception:
        sys.exit(
            f"[ERROR] {path} is damaged or not a checkpoint of this LeNet: "
            "train again, or choose another --model"
        )
    return checkpoint
