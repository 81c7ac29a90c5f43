"""model.pth: a LeNet and where its training stands, saved as plain data and checked when loaded."""

import math
import sys
import warnings
import zipfile
from io import BytesIO

import torch

from modules import cli
from modules.datasets import HIRAGANA
from modules.files import save_result
from modules.lenet import LeNet

# far more than a LeNet needs: bytes of a file, bytes of the part that is not weights, classes
MAX_FILE, MAX_PICKLE, MAX_CLASSES = 32 * 2**20, 4 * 2**20, 1000


def save_checkpoint(path, model, optimizer, history, **details):
    """Save all that a training goes on from: weights, optimizer, random state, curves, `details`.

    Those are `classes`, the class names in the order of the labels; `dataset`, the name of the
    images, and `checksum`, theirs; and `settings`, see cli.SETTINGS.
    Raises SystemExit with one line if the file cannot be written.
    """
    checkpoint = {
        "model": model.state_dict(),
        "num_channels": model.conv1.in_channels,
        "epochs": len(history["train_loss"]),
        "history": history,
        "optimizer": optimizer.state_dict(),
        "random_state": torch.get_rng_state(),
        **details,
    }
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    save_result(path, buffer.getvalue())


def load_model(path):
    """Return the LeNet saved at `path`, on the CPU, its class names, and its dataset's name.

    A file that holds the state dict of a LeNet for KMNIST alone will do. Raises SystemExit with
    one line where there is anything else.
    """
    checkpoint = _load(path, _check_model)
    model = LeNet(numChannels=1, classes=len(checkpoint["classes"]))
    model.load_state_dict(checkpoint["model"])
    return model, checkpoint["classes"], checkpoint["dataset"]


def load_training(path):
    """Return what save_checkpoint() saved at `path`, a dict, for restore_training().

    Raises SystemExit with one line where there is anything else.
    """
    return _load(path, _check_training)


def restore_training(path, checkpoint, dataset, model, optimizer):
    """Put network, optimizer and random state back to where `checkpoint`, from `path`, left them.

    Raises SystemExit with one line if it is of a training with other images, or cannot be right.
    """
    if checkpoint["checksum"] != dataset.checksum():
        sys.exit(f"[ERROR] {path} was trained on other images: name theirs with --data")
    # what Adam remembers: how often each weight was updated, and two means of its gradients
    state = optimizer.state_dict()
    state["state"] = {
        i: {"step": torch.tensor(0.0), "exp_avg": weights.cpu(), "exp_avg_sq": weights.cpu()}
        for i, weights in enumerate(model.parameters())
    }
    try:
        _check_form("optimizer", checkpoint["optimizer"], state)
        torch.set_rng_state(checkpoint["random_state"])
    except Exception as error:
        sys.exit(f"[ERROR] {path} cannot be gone on from ({error}): train anew without --resume")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])


def _load(path, check):
    """Return the dict at `path`, after `check` has looked at it: it may be from a stranger."""
    try:
        _check_archive(path)
        # weights_only: plain data, never code that runs; what torch warns of is refused anyway
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "model" not in checkpoint:
            checkpoint = {"model": checkpoint, "classes": list(HIRAGANA), "dataset": "kmnist"}
        check(checkpoint)
    except FileNotFoundError:
        sys.exit(f"[ERROR] no model at {path}: run train.py first, or name another with -m")
    except OSError as error:
        sys.exit(f"[ERROR] {path} cannot be read ({error.strerror}): name a model file with -m")
    except ValueError as error:
        reason = error
    # zipfile and torch report a damaged file in many ways, and quote it
    except Exception as error:
        reason = f"damaged, or not made by train.py: {type(error).__name__}"
    else:
        return checkpoint
    sys.exit(
        f"[ERROR] {path} holds no LeNet as train.py saves it ({reason}): train one with train.py, "
        "or name another with -m"
    )


def _check_archive(path):
    """Raise ValueError unless `path` is a zip archive as torch makes it, whole, and of sane size.

    torch does not look at checksums, and takes compressed parts, which may grow without limit.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError("too large")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("compressed")
        if sum(part.file_size for part in parts) > MAX_FILE or any(
            part.file_size > MAX_PICKLE for part in parts if part.filename.endswith(".pkl")
        ):
            raise ValueError("too large")
        if archive.testzip():
            raise ValueError("damaged")


def _check_model(checkpoint):
    """Raise an exception unless `checkpoint` holds a LeNet for grey images and its classes."""
    classes, weights = checkpoint["classes"], checkpoint["model"]
    if type(classes) is not list or not 1 <= len(classes) <= MAX_CLASSES:
        raise ValueError("no list of classes")
    if not all(type(name) is str and name.isprintable() and len(name) < 50 for name in classes):
        raise ValueError("classes that are no names")
    if checkpoint["dataset"] not in ("kmnist", "printed"):
        raise ValueError("of an unknown dataset")
    _check_form("weights", weights, LeNet(numChannels=1, classes=len(classes)).state_dict())


def _check_training(checkpoint):
    """Raise an exception unless `checkpoint` also says how far a training got, and how it goes."""
    _check_model(checkpoint)
    if "history" not in checkpoint:
        raise ValueError("only the network, nothing of its training")
    losses = checkpoint["history"]["train_loss"]
    curve = [0.0] * len(losses) if type(losses) is list else []
    names = "train_loss", "train_acc", "val_loss", "val_acc"
    _check_form("history", checkpoint["history"], dict.fromkeys(names, curve))
    _check_form("number of epochs", checkpoint["epochs"], len(curve))
    if type(checkpoint["checksum"]) is not int:
        raise ValueError("its checksum is none")
    _check_form("settings", dict.fromkeys(checkpoint["settings"]), dict.fromkeys(cli.SETTINGS))
    for name, value in checkpoint["settings"].items():
        if type(value) not in (bool, int, float) or cli.SETTINGS[name](str(value)) != value:
            raise ValueError(f"its {name} is none")
    _check_form("random state", checkpoint["random_state"], torch.get_rng_state())


def _check_form(name, value, template):
    """Raise ValueError unless `value` is built as `template` is, of finite numbers.

    Containers and tensors must be alike, and so must whatever is not a float.
    """
    if isinstance(template, torch.Tensor):
        alike = (
            isinstance(value, torch.Tensor)
            and (value.layout, value.device) == (torch.strided, template.device)
            and (value.shape, value.dtype) == (template.shape, template.dtype)
            and bool(value.isfinite().all())
        )
    elif isinstance(template, dict):
        alike = isinstance(value, dict) and value.keys() == template.keys()
        for key in template if alike else ():
            _check_form(name, value[key], template[key])
    elif isinstance(template, (list, tuple)):
        alike = type(value) is type(template) and len(value) == len(template)
        for part, part_template in zip(value, template, strict=True) if alike else ():
            _check_form(name, part, part_template)
    elif isinstance(template, float):
        alike = type(value) is float and math.isfinite(value)
    else:
        alike = type(value) is type(template) and value == template
    if not alike:
        raise ValueError(f"its {name} have another form, or numbers that are not finite")
