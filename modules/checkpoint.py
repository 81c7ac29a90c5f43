"""model.pth: a trained LeNet, saved as plain data and loaded as nothing else."""

import sys
from io import BytesIO

import torch

from modules.files import save_result
from modules.lenet import LeNet


def save_model(path, model, **details):
    """Save a LeNet's weights to `path`, and `details` about it: strings, numbers, lists, tensors.

    load_model() uses two of them: `classes`, the list of class names in the order of the labels,
    and `dataset`, the name of the images that the model was trained on.
    """
    checkpoint = {"model": model.state_dict(), "num_channels": model.conv1.in_channels, **details}
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    save_result(path, buffer.getvalue())


def load_model(path, classes):
    """Return the LeNet saved at `path`, on the CPU, its class names, and its dataset's name.

    A file that holds the network's state dict alone will do; its classes are then those given, and
    its dataset is kmnist.
    Raises SystemExit with one line where the file is missing or holds anything else than a LeNet
    for grey images.
    """
    try:
        # weights_only: a file from a stranger is data, never code that runs
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state_dict = checkpoint.get("model", checkpoint)
        num_classes = len(state_dict["fc2.bias"])
        model = LeNet(numChannels=1, classes=num_classes)
        model.load_state_dict(state_dict)
        classes = [str(name) for name in checkpoint.get("classes", classes)]
        if len(classes) != num_classes:
            raise ValueError(f"{num_classes} outputs, {len(classes)} class names")
        dataset = checkpoint.get("dataset", "kmnist")
    except FileNotFoundError:
        sys.exit(f"[ERROR] no model at {path}: run train.py first, or name another with -m")
    except OSError as error:
        sys.exit(f"[ERROR] {path} cannot be read ({error.strerror}): name a model file with -m")
    # torch.load() and load_state_dict() report a wrong file in many ways
    except Exception as error:
        sys.exit(
            f"[ERROR] {path} is not a LeNet for grey images ({type(error).__name__}): "
            "train one with train.py, or name another with -m"
        )
    return model, classes, dataset
