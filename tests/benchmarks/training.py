"""Compare the speed of train.py with the tutorial's: `python tests/benchmarks/training.py`.

Trains in every way on 45,000 images and validates on 15,000 (or fewer, with --images), each in a
process of its own, one after the other, so that all ways of a round meet the same load on the
machine. Prints the seconds of every round and medians. --busy N starts N programs that keep a CPU
core busy beside it. --before DIR adds another version of this project, in a folder of its own. The
dataset is chosen as for accuracy.py.
"""

import argparse
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median

from accuracy import ROOT, TUTORIAL, add_data_arguments, train, write_data

WAYS = ["train.py", "train.py --amp", "train.py --augment", "train.py --augment --amp"]


@contextmanager
def busy_programs(number):
    """Start programs that compute without end; end them with the block, also after Ctrl-C."""
    # Linux divides CPU time between sessions first: another program is in a session of its own
    command = [sys.executable, "-c", "while True: pass"]
    programs = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_arguments(parser)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    parser.add_argument("--busy", type=int, default=0, help="busy programs (default: 0)")
    args = parser.parse_args()

    seconds = {}
    with tempfile.TemporaryDirectory() as folder, busy_programs(args.busy):
        write_data(args, folder)
        for number in range(args.rounds):
            # the first of a round could always find the machine in the same state: take turns
            ways = [(TUTORIAL, ROOT), *product(args.ways, [ROOT, *args.before])][:: (-1) ** number]
            for way, root in ways:
                title = way if root == ROOT else f"{way} in {root}"
                figures = train(way, folder, args.epochs, root=root)
                seconds.setdefault(title, []).append(figures[0])
                print(f"round {number + 1}, {title}: {figures[0]} s", file=sys.stderr)

    print(f"| {args.busy} busy programs | seconds for {args.epochs} epochs, each round ", end="")
    print("| median | speedup |")
    print("| --- | --- | --- | --- |")
    for way, ours in seconds.items():
        each = ", ".join(f"{value:.1f}" for value in ours)
        speedup = median(a / b for a, b in zip(seconds[TUTORIAL], ours))
        print(f"| `{way}` | {each} | {median(ours):.1f} | {speedup:.2f}× |")
    # here, because the programs above do without torch
    import torch

    instructions = torch.backends.cpu.get_cpu_capability()
    print(f"\nPyTorch {torch.__version__}, with the CPU's instructions {instructions}.")
    print("The speedup is the median of the rounds' ratios, which compare runs side by side; it ")
    print("need not be the ratio of the medians, which may come from different rounds.")


if __name__ == "__main__":
    main()
