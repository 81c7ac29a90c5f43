"""What both scripts share: checks of flags, and error messages in one line.

You can skip this module.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import torch


def number(convert, low, high):
    """Return a `type` for argparse: int or float, above `low` and below `high`."""

    def parse(text):
        value = convert(text)
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text} is not above {low} and below {high}")
        return value

    # argparse shows it if `convert` fails: invalid int value
    parse.__name__ = convert.__name__
    return parse


positive_int = number(int, 0, 2**31)
positive_float = number(float, 0, math.inf)
fraction = number(float, 0, 1)


def folder(text):
    """Return the absolute path, as a text, which a checkpoint can hold."""
    return str(Path(text).resolve())


def png_path(text):
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .png")
    return Path(text)


def device(name):
    """Return the torch.device `name`; `auto` is the accelerator if there is one, else the CPU.

    Raises ArgumentTypeError, or SystemExit with one line if this machine has no such device.
    """
    if name == "auto":
        name = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{name} is not a device such as cpu, cuda:1") from error
    try:
        torch.ones(1, device=device).item()
    # different devices raise different errors
    except Exception as error:
        reason = str(error).partition("\n")[0]
        sys.exit(f"[ERROR] {device} does not work here ({reason}): try --device cpu")
    return device


def add_shared_arguments(parser):
    """Add the flags that train.py and predict.py have in common."""
    help_text = "cpu, cuda, cuda:1, mps; auto is the accelerator if there is one, else cpu"
    parser.add_argument("--device", metavar="NAME", type=device, default="auto", help=help_text)
    parser.add_argument("--seed", type=number(int, -1, 2**32), default=42, help="random seed")


def parse_resumed(parser, path, checkpoint):
    """Return the arguments with the settings of the checkpoint, from `path`, as defaults.

    Raises SystemExit with one line if the checkpoint or these flags do not allow resuming.
    """
    if "settings" not in checkpoint:
        sys.exit(f"[ERROR] {path} has no training state: start over without --resume")
    settings = checkpoint["settings"] | {name: checkpoint[name] for name in ("dataset", "data")}
    parser.set_defaults(**settings)
    args = parser.parse_args()
    if args.dataset == "auto":
        args.dataset = checkpoint["dataset"]
    changed = [name for name in settings if getattr(args, name) != settings[name]]
    # --epochs may change, unless the learning-rate schedule depends on it
    if "epochs" in changed and not args.augment:
        changed.remove("epochs")
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')} {settings[name]}" for name in changed)
        sys.exit(
            f"[ERROR] {path} was trained with {flags}: keep them, or start over without --resume"
        )
    return args


def check_outputs(*paths):
    """Make the folders of the files `paths`, and fail early if a file cannot be written.

    Raises OSError, naming the path.
    """
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.open("ab").close()
        if is_new:
            path.unlink()


def exit_without_library(error):
    """End with one line that says how to install what cannot be imported."""
    sys.exit(
        f"[ERROR] a library is missing ({error}): pip install -r requirements.txt; on Debian or "
        "Ubuntu, OpenCV also needs `apt-get install libgl1 libglib2.0-0 libxcb1`"
    )


def run(main, on_interrupt="stopped"):
    """Call `main`; end with one line and an exit status for an error that the user can fix."""
    # freeing one block of this size makes glibc, on Linux, keep the memory that a training step
    # frees for the next step, instead of returning it (man mallopt, M_MMAP_THRESHOLD)
    torch.empty(31 * 2**20, dtype=torch.uint8)
    # flush each line, and print "?" where the terminal cannot encode Hiragana
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        try:
            main()
        except KeyboardInterrupt:
            print(f"\n[INFO] {on_interrupt}")
            sys.exit(130)
    except BrokenPipeError:
        # the reader is gone, as after `| head`: discard the rest of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ImportError as error:
        exit_without_library(error)
    except (MemoryError, RuntimeError) as error:
        # each device says "memory" in words of its own
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        sys.exit("[ERROR] out of memory: try a smaller --batch-size, or --device cpu")
    except OSError as error:
        if not error.filename:
            sys.exit(f"[ERROR] {error}")
        sys.exit(f"[ERROR] {error.filename}: {error.strerror}: check the path, or choose another")
