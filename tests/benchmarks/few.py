"""Measure how many pictures a class needs: `python tests/benchmarks/few.py --data DIR`.

Trains on 20, 50 and 200 of KMNIST's training images a class (or of synthetic Hiragana's), as a
folder of pictures, for 10, 40 and 100 epochs, and prints the accuracy on 200 other training images
a class.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules.datasets import load_dataset

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def write_pictures(folder, dataset, number):
    """Write `number` training images a class as pictures, and 200 others to test on."""
    images, labels = dataset.train.tensors
    for label, name in enumerate(dataset.classes):
        chosen = (labels == label).nonzero().flatten()
        for split, some in (("train", chosen[:number]), ("test", chosen[-200:])):
            (folder / split / name).mkdir(parents=True)
            for i in some.tolist():
                pixels = (255 * images[i, 0]).round().byte().numpy()
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder with KMNIST (default: synthetic Hiragana)")
    args = parser.parse_args()
    dataset = load_dataset("kmnist" if args.data else "synthetic", args.data)
    print("| pictures a class | epochs | accuracy | with `--augment` |")
    print("| --- | --- | --- | --- |")
    for number in (20, 50, 200):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_pictures(root / "pictures", dataset, number)
            for epochs in (10, 40, 100):
                command = [sys.executable, ROOT / "train.py", "-d", root / "pictures"]
                command += ["-m", root / "m.pth", "-p", root / "p.png", "-e", str(epochs)]
                accuracies = []
                for flags in ([], ["--augment"]):
                    run = subprocess.run([*command, *flags], capture_output=True, text=True)
                    accuracies.append(
                        100 * float(re.search(r"^ +accuracy +([\d.]+)", run.stdout, re.M)[1])
                    )
                print(
                    f"| {number} | {epochs} | " + " | ".join(f"{a:.0f}%" for a in accuracies), "|"
                )


if __name__ == "__main__":
    main()
