"""Compare train.py with the tutorial as written: `python tests/benchmarks/training.py`.

Each way trains in a process of its own, 45,000 images, and validates, 15,000. The processes take
turns after every epoch, so that all of them see the same moods of the machine, and only one of them
computes at a time. Prints medians over the epochs, and of the ratios to the tutorial's epoch that
went just before.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

WAYS = {
    "tutorial": "tutorial as written",
    "default": "`train.py`",
    "amp": "`train.py --amp`",
    "augment": "`train.py --augment`",
}


def write_data(root):
    """Write printed Hiragana in KMNIST's format, as many images as KMNIST has."""
    from idx import idx_bytes

    from modules.datasets import PrintedHiragana

    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        images = PrintedHiragana(train=split == "train")
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images.data.numpy()))
        labels = images.targets.byte().numpy()
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))


def measure(way, root, epochs, device):
    """Train in this process, each epoch when a line comes in; print figures as lines of JSON."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    first_step = []
    register_optimizer_step_post_hook(
        lambda *_: first_step or first_step.append(time.time() - float(os.environ["STARTED"]))
    )

    def timed(function):
        """Make a function wait for its turn where it begins an epoch, and add up its seconds."""

        def call(*arguments, **options):
            if function.__name__ != "evaluate":
                sys.stdin.readline()
                seconds.clear()
            before = time.perf_counter()
            result = function(*arguments, **options)
            seconds.append(time.perf_counter() - before)
            # the evaluation on the test images, a third, is nobody's
            if len(seconds) == 2:
                print("EPOCH", sum(seconds), flush=True)
            return result

        return call

    seconds = []
    if way == "tutorial":
        from tutorial import Tutorial

        tutorial = Tutorial(root, device=device)
        tutorial.train_epoch = timed(tutorial.train_epoch)
        tutorial.evaluate = timed(tutorial.evaluate)
        tutorial.run(epochs, root)
        loader = tutorial.train_loader
    else:
        import train
        from modules import cli

        loaders, make_loader = [], train.DataLoader
        train.DataLoader = lambda *a, **k: loaders.append(make_loader(*a, **k)) or loaders[-1]
        train.train_epoch, train.evaluate = timed(train.train_epoch), timed(train.evaluate)
        sys.argv = ["train.py", "-d", str(root), "-e", str(epochs), "--device", device]
        sys.argv += ["-m", str(root / f"{way}.pth"), "-p", str(root / f"{way}.png")]
        sys.argv += [] if way == "default" else [f"--{way}"]
        cli.run(train.main)
        loader = loaders[0]

    sys.stdin.readline()
    before = time.perf_counter()
    num_images = sum(len(labels) for _, labels in loader)
    images_per_second = num_images / (time.perf_counter() - before)
    print("END", images_per_second, first_step[0], peak_memory(), flush=True)


def peak_memory():
    """Return the most memory that this process held at once, in MB."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each way")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, root = args.child
        measure(way, Path(root), args.epochs, args.device)
    else:
        compare(args.epochs, args.device)


def compare(epochs, device):
    """Let the ways train in turns, and print the table."""
    children, epoch_seconds, ends = {}, {way: [] for way in WAYS}, {}

    def take_turn(way):
        children[way].stdin.write("your turn\n")
        children[way].stdin.flush()
        for line in children[way].stdout:
            if line.startswith(("EPOCH ", "END ")):
                return [float(figure) for figure in line.split()[1:]]
        raise SystemExit(f"{way} ended early")

    with tempfile.TemporaryDirectory() as root:
        write_data(Path(root))
        for epoch in range(epochs + 1):
            for way in WAYS:
                if not epoch:
                    command = [sys.executable, __file__, "--child", way, root]
                    command += ["--epochs", str(epochs + 1), "--device", device]
                    children[way] = subprocess.Popen(
                        command,
                        env=os.environ | {"STARTED": str(time.time())},
                        text=True,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                epoch_seconds[way] += take_turn(way)
        # in its last epoch's wake, train.py saves and reports while the others have their turn
        for seconds in epoch_seconds.values():
            seconds.pop()
        for way in WAYS:
            ends[way] = take_turn(way)
            children[way].communicate()

    print(
        "| | seconds per epoch | | loader, images/s | | peak memory, MB | seconds to first step |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    base, base_end = epoch_seconds["tutorial"], ends["tutorial"]
    for way, title in WAYS.items():
        loader, start, memory = ends[way]
        ratio = median(a / b for a, b in zip(base, epoch_seconds[way], strict=True))
        print(
            f"| {title} | {median(epoch_seconds[way]):.2f} | {ratio:.2f} × | {loader:,.0f} "
            f"| {loader / base_end[0]:.1f} × | {memory:.0f} | {start:.1f} |"
        )


if __name__ == "__main__":
    main()
