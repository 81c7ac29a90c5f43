"""Compare the speed of train.py with the tutorial's: `python tests/benchmarks/training.py`.

Every way trains on 45,000 images and validates on 15,000 in a process of its own, one after the
other, so that a round sees the same moods of the machine and only one process computes. Prints the
medians over the rounds, of the ratios to the tutorial in the same round, too. --before DIR adds
another version of this project, in a folder of its own.
"""

import argparse
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median

from accuracy import ROOT
from accuracy import run_tutorial
from accuracy import run_way

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
WAYS = ["train.py", "train.py --amp", "train.py --augment"]


def write_data(root):
    """Write printed Hiragana in KMNIST's format, as many images as KMNIST has."""
    from idx import idx_bytes

    from modules.datasets import load_dataset

    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, images in zip(("train", "t10k"), load_dataset("printed", root), strict=True):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images.data.numpy()))
        labels = images.targets.byte().numpy()
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def compare_loaders(root):
    """Print how many images per second the DataLoaders return."""
    from torch import manual_seed
    from torch.utils.data import DataLoader
    from torch.utils.data import default_convert
    from tutorial import make_loaders

    from modules.datasets import KMNIST

    theirs, *_ = make_loaders(root, manual_seed(42))
    ours = DataLoader(KMNIST(root, train=True), 64, shuffle=True, collate_fn=default_convert)
    for name, loader in {"tutorial as written": theirs, "train.py": ours}.items():
        start = time.perf_counter()
        num_images = sum(len(labels) for _, labels in loader)
        print(f"DataLoader, {name}: {num_images / (time.perf_counter() - start):,.0f} images/s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    args = parser.parse_args()

    seconds = {"tutorial as written": []}
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        compare_loaders(folder)
        for number in range(args.rounds):
            seconds["tutorial as written"].append(run_tutorial(folder, folder, args.epochs)[1])
            # who comes first would always find the machine in the same mood: take turns at it
            for way, root in list(product(args.ways, [ROOT, *args.before]))[:: (-1) ** number]:
                title = way if root == ROOT else f"{way} in {root}"
                flags = f"{way} --epochs {args.epochs} --device {args.device}"
                figures = run_way(flags, folder, folder, root=root)
                seconds.setdefault(title, []).append(figures[1])

    print("| | seconds per epoch | times as fast |")
    print("| --- | --- | --- |")
    for way, ours in seconds.items():
        ratio = median(a / b for a, b in zip(seconds["tutorial as written"], ours, strict=True))
        print(f"| `{way}` | {median(ours) / args.epochs:.2f} | {ratio:.2f} × |")


if __name__ == "__main__":
    main()
