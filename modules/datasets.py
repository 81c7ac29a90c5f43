"""KMNIST: 28×28 grey images of cursive Hiragana in ten classes."""

import sys
import textwrap

from torchvision.datasets import KMNIST
from torchvision.transforms import ToTensor

# the classes in the order of their labels, and the modern character of each
HIRAGANA = dict(zip(KMNIST.classes, "おきすつなはまやれを", strict=True))


def label_text(class_name):
    """Return a class name as it is shown, with its character where it is Hiragana: `き (ki)`."""
    return f"{HIRAGANA[class_name]} ({class_name})" if class_name in HIRAGANA else class_name


def load_kmnist(root, train):
    """Return KMNIST's training or test images, downloaded into root/KMNIST/raw if need be.

    An item is an image, (1, 28, 28) float32 in [0, 1], white ink on black, and its label, an int
    from 0 to 9. Raises SystemExit with one line where the files cannot be had or read.
    """
    try:
        dataset = KMNIST(root, train=train, transform=ToTensor(), download=True)
        images, labels = dataset.data, dataset.targets
        if images.shape != (len(labels), 28, 28) or labels.max() >= len(dataset.classes):
            raise ValueError("not as many labels from 0 to 9 as 28×28 images")
        return dataset
    # torchvision reports a damaged file in many ways, an assertion among them
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder="...")
        sys.exit(
            f"[ERROR] {root}/KMNIST/raw does not hold KMNIST, nor could it be downloaded there "
            f"({reason}): put KMNIST's four files there, or name another folder with --data"
        )
