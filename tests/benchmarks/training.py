"""Compare the speed of train.py with the tutorial's: `python tests/benchmarks/training.py`.

Trains in every way on 45,000 images and validates on 15,000, each in a process of its own, one
after the other, so that a round sees the same load on the machine. Prints medians over the rounds,
also of the speedups over the tutorial in the same round. --before DIR adds another version of this
project, in a folder of its own. The dataset is chosen as for accuracy.py.
"""

import argparse
import tempfile
from itertools import product
from pathlib import Path
from statistics import median

from accuracy import ROOT, TUTORIAL, add_data_arguments, train, write_data

WAYS = ["train.py", "train.py --amp", "train.py --augment", "train.py --augment --amp"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_arguments(parser)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    args = parser.parse_args()

    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        write_data(args, folder)
        for number in range(args.rounds):
            # the first of a round could always find the machine in the same state: take turns
            ways = [(TUTORIAL, ROOT), *product(args.ways, [ROOT, *args.before])][:: (-1) ** number]
            for way, root in ways:
                title = way if root == ROOT else f"{way} in {root}"
                figures = train(way, folder, args.epochs, root=root)
                seconds.setdefault(title, []).append(figures[0])

    print("| | seconds per epoch | speedup |")
    print("| --- | --- | --- |")
    for way, ours in seconds.items():
        speedup = median(a / b for a, b in zip(seconds[TUTORIAL], ours))
        print(f"| `{way}` | {median(ours) / args.epochs:.2f} | {speedup:.2f}× |")


if __name__ == "__main__":
    main()
