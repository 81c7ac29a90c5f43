"""model.pth: written whole, and loaded as plain data. train.py shows what it holds."""

from modules.errors import UserError

import errno
import os
import time
import zipfile
from io import BytesIO
from pathlib import Path

import torch


def save_checkpoint(path, checkpoint):
    """Save the dict `checkpoint`; a crash leaves the old file or the new one. Raises OSError."""
    # where the path is a symbolic link, the file that it points to is replaced, not the link
    path = Path(os.path.realpath(path))
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

    A file that is just a state dict gives a dict with nothing else, as "model". Raises UserError if
    the file is missing, damaged or something else, OSError if it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no model at {path}: run train.py first, or choose another --model")
    content = BytesIO(path.read_bytes())
    try:
        # torch.save() compresses nothing, so a compressed part is not from it, and could fill the
        # memory; torch.load() verifies no checksum
        with zipfile.ZipFile(content) as archive:
            if any(part.compress_type for part in archive.infolist()) or archive.testzip():
                raise ValueError("compressed, or damaged")
        content.seek(0)
        # weights_only: load plain data, and never run code that the file holds
        checkpoint = torch.load(content, map_location="cpu", weights_only=True)
        if "model" not in checkpoint:
            return {"model": checkpoint}
        for key, kind in ("classes", list), ("model", dict), ("dataset", str), ("data", str):
            if not isinstance(checkpoint[key], kind):
                raise TypeError(key)
        return checkpoint
    except Exception as error:
        raise another_file(path) from error


def load_weights(model, state_dict, path):
    """Load the parameters of the checkpoint at `path`; UserError if they are another network's."""
    try:
        model.load_state_dict(state_dict)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise another_file(path) from error


def another_file(path):
    return UserError(
        f"{path} is damaged or not a checkpoint of this LeNet: train again, or choose another "
        "--model"
    )
