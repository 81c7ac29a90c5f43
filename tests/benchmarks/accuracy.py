"""Compare accuracies with the tutorial's: `python tests/benchmarks/accuracy.py DIR`.

DIR is a folder for --data. Every way trains once with each seed, in a process of its own, one after
the other. Prints the accuracies on the test images, their mean, and the median of how many times
faster than the tutorial's ten epochs, with the same seed, the training was.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
WAYS = ["train.py", *(f"train.py --augment --epochs {n}" for n in (3, 4, 10, 30))]


def run(words, root=ROOT):
    """Train in a process; return the accuracy on the test images, and the seconds of training."""
    command = [sys.executable, *map(str, words)]
    run = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    accuracy = re.search(r"accuracy +(\d\.\d+) +\d+$", run.stdout, re.M)[1]
    return float(accuracy), float(re.search(r"trained in ([\d.]+) s", run.stdout)[1])


def run_tutorial(data, folder, epochs=10, seed=42):
    return run(["tests/tutorial.py", data, seed, epochs, folder])


def run_way(way, data, folder, seed=42, root=ROOT):
    outputs = ["-m", f"{folder}/model.pth", "-p", f"{folder}/plot.png"]
    return run([*way.split(), "-d", data, "--seed", seed, *outputs], root)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    args = parser.parse_args()
    data = args.data.resolve()

    results = {way: [] for way in ["tutorial as written", *args.ways]}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            results["tutorial as written"].append(run_tutorial(data, folder, seed=seed))
            for way in args.ways:
                results[way].append(run_way(way, data, folder, seed))

    print(f"| seeds {args.seeds} | test accuracy | seconds | times as fast |")
    print("| --- | --- | --- | --- |")
    _, tutorial_seconds = zip(*results["tutorial as written"], strict=True)
    for way, figures in results.items():
        accuracies, seconds = zip(*figures, strict=True)
        ratio = median(a / b for a, b in zip(tutorial_seconds, seconds, strict=True))
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        print(f"| `{way}` | {100 * mean(accuracies):.2f} % ({each}) ", end="")
        print(f"| {median(seconds):.1f} | {ratio:.1f} × |")


if __name__ == "__main__":
    main()
