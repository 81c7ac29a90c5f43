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
WAYS = ["", *(f"--augment --epochs {n}" for n in (3, 4, 10, 30)), "--augment --amp --epochs 4"]
# what runs the tutorial in a process of its own
CODE = """
import sys
from pathlib import Path
sys.path[:0] = [".", "tests"]
from tutorial import Tutorial
Tutorial(sys.argv[1], int(sys.argv[2])).run(10, Path(sys.argv[3]))
"""


def train(way, root, seed, folder):
    """Train in a process of its own; return the accuracy on the test images and the seconds."""
    command = ["train.py", "-d", root, "--seed", str(seed), *way.split()]
    command += ["-m", f"{folder}/model.pth", "-p", f"{folder}/plot.png"]
    if way == TUTORIAL:
        command = ["-c", CODE, root, str(seed), folder]
    output = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    accuracy = re.search(r"accuracy +(\d\.\d+) +\d+$", output, re.M)[1]
    return float(accuracy), float(re.search(r"trained in ([\d.]+) s", output)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=lambda text: str(Path(text).resolve()))
    root = parser.parse_args().data

    ways = [TUTORIAL, *WAYS]
    with tempfile.TemporaryDirectory() as folder:
        rounds = [[train(way, root, seed, folder) for way in ways] for seed in SEEDS]
    print(f"| seeds {SEEDS} | test accuracy | seconds | |")
    print("| --- | --- | --- | --- |")
    for way, results in zip(ways, zip(*rounds, strict=True), strict=True):
        accuracies, seconds = zip(*results, strict=True)
        ratio = median(tutorial[0][1] / s for tutorial, s in zip(rounds, seconds, strict=True))
        title = TUTORIAL if way == TUTORIAL else f"`{f'train.py {way}'.strip()}`"
        each = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
        print(
            f"| {title} | {100 * mean(accuracies):.2f} % ({each}) "
            f"| {median(seconds):.1f} | {ratio:.1f} × |"
        )


if __name__ == "__main__":
    main()
