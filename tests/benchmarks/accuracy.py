"""Compare accuracies with the tutorial's: `python tests/benchmarks/accuracy.py DIR`.

DIR is a folder for --data. Every way trains once with each seed, one after the other. Prints the
mean accuracy on the test images, and the median of how many times faster than the tutorial's ten
epochs, with the same seed, the training was.
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
SEEDS = 42, 0, 1
TUTORIAL = "tutorial as written"
WAYS = ["", *(f"--augment --epochs {epochs}" for epochs in (2, 3, 4, 5, 10, 30))]


def train(way, root, seed, folder):
    """Train in a process of its own; return the accuracy on the test images and the seconds."""
    if way == TUTORIAL:
        code = f"from tutorial import *; from pathlib import Path; Tutorial({str(root)!r}, {seed})"
        command = ["-c", f"{code}.run(10, Path({folder!r}))"]
    else:
        command = ["train.py", "-d", root, "--seed", str(seed), *way.split()]
        command += ["-m", f"{folder}/model.pth", "-p", f"{folder}/plot.png"]
    path = f"{ROOT / 'tests'}:{ROOT}"
    output = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=None if way != TUTORIAL else {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    accuracy = re.search(r"accuracy +(\d\.\d+) +\d+$", output, re.M)[1]
    return float(accuracy), float(re.search(r"trained in ([\d.]+) s", output)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=lambda text: Path(text).resolve())
    root = parser.parse_args().data

    ways = [TUTORIAL, *WAYS]
    with tempfile.TemporaryDirectory() as folder:
        rounds = [[train(way, root, seed, folder) for way in ways] for seed in SEEDS]
    print(f"seeds {SEEDS}")
    print("| | test accuracy | seconds | |")
    print("| --- | --- | --- | --- |")
    for way, results in zip(ways, zip(*rounds, strict=True), strict=True):
        accuracies, seconds = zip(*results, strict=True)
        ratio = median(tutorial[0][1] / s for tutorial, s in zip(rounds, seconds, strict=True))
        title = way if way == TUTORIAL else f"`train.py {way}`".replace(" `", "`")
        print(
            f"| {title} | {100 * mean(accuracies):.2f} % "
            f"({', '.join(f'{100 * a:.2f}' for a in accuracies)}) "
            f"| {median(seconds):.1f} | {ratio:.1f} × |"
        )


if __name__ == "__main__":
    main()
