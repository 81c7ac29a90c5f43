"""From pixels to an answer: the input of the network, and what its output means."""

import torch


def to_input(images):
    """Return images, (..., 28, 28) uint8, as the network takes them: scaled to [0, 1].

    Returns (..., 1, 28, 28) float32: unsqueeze() adds the dimension of the channel.
    """
    return torch.as_tensor(images).unsqueeze(-3) / 255


def predict(model, images):
    """Return the probability of each class, (N, classes), for images, (N, 1, 28, 28) float32."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        # in batches: ten thousand images at once would take a lot of memory
        log_probs = torch.cat([model(batch.to(device)) for batch in images.split(250)])
    # the exponential of a log-probability is the probability
    return log_probs.exp().cpu()


def describe(probabilities, classes):
    """Return lines of text: the predicted class and, if at least 10%, the second.

    probabilities: (classes,), one image's.
    """
    best, labels = probabilities.topk(2)
    lines = [f"{classes[label]} {share:.1%}" for share, label in zip(best, labels)]
    return [lines[0], f"or {lines[1]}"] if best[1] >= 0.1 else lines[:1]
