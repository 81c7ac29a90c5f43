"""model.pth: what it holds, written whole, loaded as plain data, and resumed."""

from modules.kmnist import CLASSES
from modules.lenet import LeNet
from modules.messages import UserError

import os
import time
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import torch

# the flags that --resume keeps
SETTINGS = ["epochs", "batch_size", "lr", "val_split", "augment", "amp", "seed"]


def save_checkpoint(args, dataset, history, model, optimizer, scheduler):
    """Save what predict.py and --resume need to args.model. Raises OSError."""
    checkpoint = {
        "model": model.state_dict(),
        "classes": dataset.classes,
        "dataset": dataset.name,
        "data": dataset.folder,
        "checksum": dataset.checksum,
        "settings": {name: getattr(args, name) for name in SETTINGS},
        "history": history,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler and scheduler.state_dict(),
        "random_state": torch.get_rng_state(),
    }
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    write_whole(args.model, buffer.getbuffer())


def keep_settings(parser, args):
    """Return the arguments with the settings of the checkpoint that is resumed.

    Raises UserError if it cannot be resumed; a flag that contradicts it ends the script.
    """
    checkpoint = load_checkpoint(args.model)
    if not {"settings", "checksum", "history", "optimizer", "random_state"} <= checkpoint.keys():
        raise UserError(f"{args.model} has no training state: train again without --resume")
    # parse the flags once more: those that are not given now default to the checkpoint's
    kept = {**checkpoint["settings"], "dataset": checkpoint["dataset"]}
    is_drawn = kept["dataset"] == "synthetic"
    if is_drawn and args.data:
        parser.error(f"{args.model} was trained on synthetic Hiragana: leave --data out")
    parser.set_defaults(**kept, data=Path(checkpoint["data"]), device=args.device)
    args = parser.parse_args()
    if args.dataset == "auto":
        args.dataset = kept["dataset"]
    for name, value in kept.items():
        # more epochs are possible, unless the learning rates were chosen for their number
        if getattr(args, name) != value and (name != "epochs" or kept["augment"]):
            flag = f"--{name.replace('_', '-')}"
            parser.error(f"--resume keeps {name} at {value}: leave {flag} or --resume out")
    if not is_drawn and not args.data.is_dir():
        raise UserError(f"there is no dataset folder {args.data}: choose another --data")
    return args


def resume(args, dataset, model, optimizer, scheduler):
    """Load the state of the training after its last epoch; return its history.

    Raises UserError if the dataset is another one.
    """
    checkpoint = load_checkpoint(args.model)
    if (checkpoint["checksum"], checkpoint["classes"]) != (dataset.checksum, dataset.classes):
        raise UserError(
            f"{dataset.folder} does not hold the images that {args.model} was trained on: train "
            "again without --resume, or choose another --data"
        )
    load_weights(model, checkpoint["model"], args.model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler:
        scheduler.load_state_dict(checkpoint["scheduler"])
    torch.set_rng_state(checkpoint["random_state"])
    history = checkpoint["history"]
    epoch = len(history["train_loss"])
    end = "" if epoch < args.epochs else ": nothing is left to train"
    print(f"[INFO] resuming {args.model} after epoch {epoch}{end}")
    return history


def load_network(path, device="cpu"):
    """Return the trained LeNet of a checkpoint, in evaluation mode, and the checkpoint, a dict.

    Raises UserError if the file is missing, damaged or of another network.
    """
    checkpoint = load_checkpoint(path)
    model = LeNet(numChannels=1, classes=len(checkpoint["classes"]))
    load_weights(model, checkpoint["model"], path)
    return model.to(device).eval(), checkpoint


def load_checkpoint(path):
    """Return the dict that train.py saved at `path`, its tensors on the CPU.

    Raises UserError if the file is missing, damaged or something else, OSError if it cannot be
    read.
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
            # just a state dict: nothing else is known
            return {"model": checkpoint, "classes": CLASSES, "dataset": "auto", "data": "data"}
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
