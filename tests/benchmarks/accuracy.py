"""Compare accuracies with the tutorial's: `python tests/benchmarks/accuracy.py [DIR]`.

DIR is a folder for --data; without it, everything trains on printed Hiragana. Trains in every way
once with each seed, each in a process of its own, one after the other. Prints the accuracies on the
test images, their mean, and how many times faster than the tutorial's ten epochs the training was,
the median over the seeds.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TUTORIAL = "the tutorial's way"
WAYS = ["train.py", *(f"train.py --augment --epochs {n}" for n in (3, 4, 10, 30, 100))]


def write_printed(root):
    """Write printed Hiragana in KMNIST's format, as many images as KMNIST has, for --data."""
    from idx import write_dataset

    from modules.datasets import load_dataset

    train, test = ((d.data.numpy(), d.targets.numpy()) for d in load_dataset("printed", root))
    write_dataset(Path(root), train=train, t10k=test)


def train(way, data, folder, epochs=10, seed=42, root=ROOT):
    """Train in a process; return the accuracy on the test images, and the seconds of training."""
    words = [*way.split(), "-d", data, "-m", f"{folder}/m.pth", "-p", f"{folder}/p.png"]
    words += ["--seed", seed, *([] if "--epochs" in way else ["--epochs", epochs])]
    if way == TUTORIAL:
        words = ["tests/tutorial.py", data, seed, epochs, folder]
    command = [sys.executable, *map(str, words)]
    run = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    accuracy = re.search(r"accuracy +(\d\.\d+) +\d+$", run.stdout, re.M)[1]
    return float(accuracy), float(re.search(r"trained in ([\d.]+) s", run.stdout)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4, 5])
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    args = parser.parse_args()

    results = {way: [] for way in [TUTORIAL, *args.ways]}
    with tempfile.TemporaryDirectory() as folder:
        if not args.data:
            write_printed(folder)
        for seed in args.seeds:
            for way, figures in results.items():
                data = args.data.resolve() if args.data else folder
                figures.append(train(way, data, folder, seed=seed))

    print(f"| seeds {args.seeds} | test accuracy | seconds | times as fast |")
    print("| --- | --- | --- | --- |")
    for way, figures in results.items():
        accuracies, seconds = zip(*figures, strict=True)
        ratio = median(a[1] / b[1] for a, b in zip(results[TUTORIAL], figures, strict=True))
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        print(f"| `{way}` | {100 * mean(accuracies):.2f} % ({each}) ", end="")
        print(f"| {median(seconds):.1f} | {ratio:.1f} × |", flush=True)


if __name__ == "__main__":
    main()
