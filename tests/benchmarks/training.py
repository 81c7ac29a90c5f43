"""Compare train.py with the tutorial as written: `python tests/benchmarks/training.py`.

Each way trains in processes of its own, which take turns: 45,000 images to train on, 15,000 to
validate on. Prints a table of medians, and how many times as good as the tutorial's each is.
"""

import argparse
import json
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
    """Train in this process and print, as JSON, what it took."""
    first_step, start = [], float(os.environ["STARTED"])

    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(
        lambda *_: first_step or first_step.append(time.time() - start)
    )
    seconds, loader_seconds = [], []

    def timed(function, times):
        def call(*arguments, **options):
            before = time.perf_counter()
            result = function(*arguments, **options)
            times.append(time.perf_counter() - before)
            return result

        return call

    def time_loader(loader):
        before = time.perf_counter()
        num_images = sum(len(labels) for _, labels in loader)
        loader_seconds.append((time.perf_counter() - before) / num_images)

    if way == "tutorial":
        from tutorial import Tutorial

        tutorial = Tutorial(root, device=device)
        for _ in range(epochs):
            timed(tutorial.train, seconds)()
            timed(tutorial.validate, seconds)()
        time_loader(tutorial.train_loader)
    else:
        import train
        from modules import cli

        train.train_epoch = timed(train.train_epoch, seconds)
        train.evaluate = timed(train.evaluate, seconds)
        loaders = []
        make_loader = train.DataLoader
        train.DataLoader = lambda *a, **k: loaders.append(make_loader(*a, **k)) or loaders[-1]
        results = ["-m", str(root / "model.pth"), "-p", str(root / "plot.png")]
        flags = [] if way == "default" else [f"--{way}"]
        sys.argv = ["train.py", "-d", str(root), "-e", str(epochs), "--device", device]
        sys.argv += results + flags
        cli.run(train.main)
        time_loader(loaders[0])

    # training and validation of each epoch; the evaluation on the test images is left out
    pairs = seconds[: 2 * epochs]
    result = {
        "epoch": [sum(pair) for pair in zip(pairs[::2], pairs[1::2], strict=True)],
        "loader": 1 / loader_seconds[0],
        "start": first_step[0],
        "memory": peak_memory(),
    }
    print("RESULT", json.dumps(result))


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
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    parser.add_argument("--epochs", type=int, default=3, help="epochs in a turn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, root = args.child
        return measure(way, Path(root), args.epochs, args.device)

    results = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as root:
        write_data(Path(root))
        for _ in range(args.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--child", way, root]
                command += ["--epochs", str(args.epochs), "--device", args.device]
                env = os.environ | {"STARTED": str(time.time())}
                run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
                results[way].append(json.loads(run.stdout.split("RESULT ")[1]))

    print(
        "| | seconds per epoch | | loader, images/s | | peak memory, MB | seconds to first step |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for way, title in WAYS.items():
        rounds = results[way]
        figures = {key: median(r[key] for r in rounds) for key in ("loader", "start", "memory")}
        figures["epoch"] = median(seconds for r in rounds for seconds in r["epoch"])
        if way == "tutorial":
            base = figures
        print(
            f"| {title} | {figures['epoch']:.2f} | {base['epoch'] / figures['epoch']:.2f} × "
            f"| {figures['loader']:,.0f} | {figures['loader'] / base['loader']:.1f} × "
            f"| {figures['memory']:.0f} | {figures['start']:.1f} |"
        )
    return None


if __name__ == "__main__":
    main()
