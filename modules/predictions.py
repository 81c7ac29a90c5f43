"""What a network predicts for many images at once, and which test images it misclassifies."""

from modules.datasets import load_test_images

import torch


def find_mistakes(model, checkpoint, args):
    """Return the misclassified test images, the most confident first; print the accuracy.

    Returns at most args.num images, (N, 1, 28, 28) float32, and their true labels, (N,) int64.
    Raises UserError, OSError.
    """
    images, labels = load_test_images(checkpoint, args.data)
    confidences, predicted = predict(model, images).max(dim=1)
    is_wrong = predicted != labels
    num_wrong, accuracy = is_wrong.sum(), 1 - is_wrong.double().mean()
    print(f"[INFO] {num_wrong} of {len(images)} test images misclassified, accuracy {accuracy:.2%}")
    # the indices of the mistakes, the most confident first
    mistakes = torch.where(is_wrong)[0]
    order = confidences[mistakes].argsort(descending=True)
    chosen = mistakes[order][: args.num]
    return images[chosen], labels[chosen]


def predict(model, images):
    """Return the probabilities of the classes, (N, classes), for images, (N, 1, 28, 28) float32.

    The network has to be in evaluation mode.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        # ten thousand images at once would take a lot of memory
        log_probs = torch.cat([model(batch.to(device)) for batch in images.split(250)])
    # the exponential of a log-probability is the probability
    return log_probs.exp().cpu()
