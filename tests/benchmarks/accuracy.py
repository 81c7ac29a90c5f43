"""Compare accuracies with the tutorial's: `python tests/benchmarks/accuracy.py`.

Trains on KMNIST in `data`, where train.py downloads it, or in another folder (--data), or on
synthetic Hiragana (--synthetic): in every way once with each seed, each in a process of its own,
one after the other. Prints the mean accuracies on the validation and the test images with their
standard errors, and the speedup over the tutorial's training, the median over the seeds.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median, stdev

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TUTORIAL = "the tutorial's way"
# the user's, before importing modules changes it: the tutorial's way sets nothing
ENVIRONMENT = dict(os.environ)
WAYS = ["train.py", *(f"train.py --augment --epochs {n}" for n in (3, 10, 30))]


def add_data_arguments(parser):
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--synthetic", action="store_true", help="instead of KMNIST")
    parser.add_argument("--images", type=int, default=60_000, help="training images to use")


def write_data(args, folder):
    """Write the dataset into `folder`, unpacked, as torchvision reads it."""
    from modules.synthetic import draw_images

    from idx import read_dataset, write_dataset

    if args.synthetic:
        splits = {"train": draw_images(60_000, 0), "t10k": draw_images(10_000, 1)}
    elif (args.data / "KMNIST" / "raw").is_dir():
        splits = {split: tuple(read_dataset(args.data, split)) for split in ("train", "t10k")}
    else:
        sys.exit(f"KMNIST is not in {args.data}: run train.py, or try --synthetic")
    if args.images < 60_000:
        # test images in proportion: own training images with KMNIST's whole test set are refused
        sizes = {"train": args.images, "t10k": args.images // 6}
        splits = {split: [v[: sizes[split]] for v in pair] for split, pair in splits.items()}
    write_dataset(Path(folder), **splits)


def train(way, folder, epochs=10, seed=42, root=ROOT):
    """Train in a process on the dataset in `folder`; return seconds, validation and test accuracy.

    The accuracies are in percent.
    """
    words = [*way.split(), "-d", folder, "-m", f"{folder}/m.pth", "-p", f"{folder}/p.png"]
    words += ["--seed", seed, *([] if "--epochs" in way else ["--epochs", epochs])]
    if way == TUTORIAL:
        words = ["tests/tutorial.py", folder, seed, epochs, folder]
    command = [sys.executable, *map(str, words)]
    options = {"cwd": root, "env": ENVIRONMENT, "check": True}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    seconds = float(re.search(r"trained in ([\d.]+) s", run.stdout)[1])
    *_, val_accuracy = re.findall(r"validation accuracy ([\d.]+)$", run.stdout, re.M)
    test_accuracy = re.search(r"accuracy +([\d.]+) +\d+$", run.stdout, re.M)[1]
    return seconds, 100 * float(val_accuracy), 100 * float(test_accuracy)


def describe(accuracies):
    """Return the mean with its standard error."""
    error = stdev(accuracies) / len(accuracies) ** 0.5 if len(accuracies) > 1 else None
    return f"{mean(accuracies):.2f}%" + (f" ± {error:.2f}" if error is not None else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_arguments(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=WAYS, help="command lines of train.py")
    args = parser.parse_args()

    results = {way: [] for way in [TUTORIAL, *args.ways]}
    with tempfile.TemporaryDirectory() as folder:
        write_data(args, folder)
        for seed in args.seeds:
            for way, figures in results.items():
                figures.append(train(way, folder, seed=seed))
                print(f"seed {seed}, {way}: {figures[-1]}", file=sys.stderr)

    print("| seeds", *args.seeds, "| validation accuracy | test accuracy | seconds | speedup |")
    print("| --- | --- | --- | --- | --- |")
    for way, figures in results.items():
        seconds, val_accuracies, test_accuracies = zip(*figures)
        each = ", ".join(f"{accuracy:.2f}" for accuracy in test_accuracies)
        each_seconds = ", ".join(f"{value:.1f}" for value in seconds)
        speedup = median(a[0] / b[0] for a, b in zip(results[TUTORIAL], figures))
        row = [f"`{way}`", describe(val_accuracies), f"{describe(test_accuracies)} ({each})"]
        row += [f"{median(seconds):.1f} ({each_seconds})", f"{speedup:.1f}×"]
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
