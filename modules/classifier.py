"""From pixels to an answer: the input of the network, the network, and what its output means."""

from modules.checkpoint import load_checkpoint, load_weights
from modules.kmnist import CLASSES
from modules.lenet import LeNet

import torch


def to_input(images):
    """Return images, (..., 28, 28) uint8, as the network takes them: scaled to [0, 1].

    Returns (..., 1, 28, 28) float32: unsqueeze() adds the dimension of the channel.
    """
    return torch.as_tensor(images).unsqueeze(-3) / 255


def load_network(path, device="cpu"):
    """Return the trained LeNet of a checkpoint, in evaluation mode, and the checkpoint, a dict.

    Raises UserError if the file is missing, damaged or of another network.
    """
    # what a file that is just a state dict does not say
    defaults = {"classes": CLASSES, "dataset": "auto", "data": "data"}
    checkpoint = defaults | load_checkpoint(path)
    model = LeNet(numChannels=1, classes=len(checkpoint["classes"]))
    load_weights(model, checkpoint["model"], path)
    return model.to(device).eval(), checkpoint


def predict(model, images):
    """Return the probability of each class, (N, classes), for images, (N, 28, 28) uint8."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        batches = torch.as_tensor(images).split(250)
        log_probs = torch.cat([model(to_input(batch).to(device)) for batch in batches])
    # the exponential of a log-probability is the probability
    return log_probs.exp().cpu()


def describe(probabilities, classes):
    """Return the predicted class, and lines of text: it, and the second class if at least 10%.

    probabilities: (classes,), one image's.
    """
    best, labels = probabilities.topk(2)
    first, second = (classes[label] for label in labels)
    lines = [f"{first} {best[0]:.1%}", f"or {second} {best[1]:.1%}"]
    return first, lines if best[1] >= 0.1 else lines[:1]
