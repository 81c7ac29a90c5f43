"""model.pth: what it holds, written whole, loaded as plain data, and resumed."""

from modules.kmnist import CLASSES
from modules.lenet import LeNet
from modules.messages import UserError

import math
import os
import shlex
import subprocess
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import torch

# the options that --resume keeps, beside the dataset
SETTINGS = ["epochs", "batch_size", "lr", "val_split", "augment", "amp", "seed"]
# the command that goes on, after this process has saved an epoch
resume_command = None


def save_checkpoint(args, sets, history, model, optimizer, scheduler):
    """Save what predict.py and --resume need to args.model.

    Raises UserError if the training has failed, OSError if the file cannot be written.
    """
    if not math.isfinite(history["train_loss"][-1] + history["val_loss"][-1]):
        number = len(history["train_loss"])
        raise UserError(f"epoch {number}: the loss is nan or infinite: try a smaller --lr")
    checkpoint = {
        "model": model.state_dict(),
        "classes": sets.classes,
        "dataset": sets.name,
        "data": sets.folder,
        "checksum": sets.checksum,
        "settings": {name: getattr(args, name) for name in SETTINGS},
        "history": history,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler and scheduler.state_dict(),
        "random_state": torch.get_rng_state(),
    }
    # to memory first: of an error of the disk, torch.save() does not tell the cause
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    write_whole(args.model, buffer.getbuffer())
    global resume_command
    words = ["python", "train.py", "--resume", "-m", str(args.model), "-p", str(args.plot)]
    resume_command = subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def load_checkpoint(path):
    """Return the dict that train.py saved at `path`, its tensors on the CPU.

    A file that is just a state dict is taken for a model of KMNIST. Raises UserError if the file is
    missing, damaged or something else, OSError if it cannot be read.
    """
    try:
        # weights_only: load plain data, and never run code that the file holds
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "model" not in checkpoint:
            return {"model": checkpoint, "classes": CLASSES, "dataset": "auto", "data": "data"}
        if not {"classes", "dataset", "data"} <= checkpoint.keys():
            raise KeyError("another kind of file")
        return checkpoint
    except FileNotFoundError as error:
        text = f"no model at {path}: run train.py first, or choose another --model"
        raise UserError(text) from error
    # PyTorch raises errors of many kinds for other files; what the disk says has a number
    except Exception as error:
        if getattr(error, "errno", None):
            raise
        raise another_file(path) from error


def load_network(path, device="cpu"):
    """Return the trained LeNet of a checkpoint, in evaluation mode, and the checkpoint, a dict.

    Raises UserError if the file is missing, damaged or of another network, OSError if it cannot be
    read.
    """
    checkpoint = load_checkpoint(path)
    model = LeNet(numChannels=1, classes=len(checkpoint["classes"]))
    load_weights(model, checkpoint["model"], path)
    return model.to(device).eval(), checkpoint


def resume(args, sets, model, optimizer, scheduler):
    """Load the state after the last epoch into all three; return the history, a dict of lists.

    Raises UserError if args.model is missing, or a checkpoint of other training images or of
    another network, OSError if it cannot be read.
    """
    checkpoint = load_checkpoint(args.model)
    if (checkpoint["checksum"], checkpoint["classes"]) != (sets.checksum, sets.classes):
        raise UserError(
            f"{sets.folder} does not hold the images that {args.model} was trained on: train again "
            "without --resume, or choose another --data"
        )
    load_weights(model, checkpoint["model"], args.model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler:
        scheduler.load_state_dict(checkpoint["scheduler"])
    torch.set_rng_state(checkpoint["random_state"])
    epoch = len(checkpoint["history"]["train_loss"])
    end = "" if epoch < args.epochs else ": nothing is left to train"
    print(f"[INFO] resuming {args.model} after epoch {epoch}{end}")
    return checkpoint["history"]


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


def write_whole(path, content):
    """Write a file; a crash leaves the old one or the new one. Raises OSError."""
    # where the path is a symbolic link, the file that it points to is replaced, not the link
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            # before the file replaces another, in case the power fails; some drives cannot do it
            with suppress(OSError):
                os.fsync(file.fileno())
        # on Windows, wait while a virus scanner reads one of the files
        for seconds in (0.1, 0.3, 0.6, 1):
            with suppress(PermissionError):
                return partial.replace(path)
            time.sleep(seconds)
        partial.replace(path)
    except OSError as error:
        # where the disk is full, the error names no file
        error.filename = str(path)
        raise
    finally:
        # another error here would hide the one above
        with suppress(OSError):
            partial.unlink()
