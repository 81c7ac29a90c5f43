"""What the command lines of train.py and predict.py share: checked flags, device, clean ends."""

import argparse
import ctypes
import math
import os
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import torch


def _checked(convert, is_valid, description):
    """Return an argparse type that refuses, in words, whatever is not valid."""

    def parse(text):
        try:
            value = convert(text)
            if is_valid(value):
                return value
        # torch reports a device that it does not know as a RuntimeError
        except (ValueError, RuntimeError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not {description}")

    return parse


positive_int = _checked(int, lambda n: 1 <= n < 2**31, "a whole number from 1 to 2147483647")
positive_float = _checked(float, lambda x: 0 < x < math.inf, "a number above 0")
fraction = _checked(float, lambda x: 0 < x < 1, "a number between 0 and 1, both excluded")
seed = _checked(int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 4294967295")
png_path = _checked(Path, lambda path: path.suffix.lower() == ".png", "a file name ending in .png")
device = _checked(
    lambda name: _best_device() if name == "auto" else torch.device(name),
    lambda device: True,
    "a device such as cpu, cuda or cuda:1",
)


def _best_device():
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def add_shared_arguments(parser):
    """Add the flags that train.py and predict.py have in common."""
    add = parser.add_argument
    add("-d", "--data", type=Path, default="data", help="holds, or gets, KMNIST/raw")
    add(
        "--device",
        metavar="NAME",
        type=device,
        default="auto",
        help="cpu, cuda, cuda:1, mps; auto is the accelerator if there is one, else cpu",
    )
    add("--seed", type=seed, default=42, help="start of everything random")


def check_device(device):
    """Raise SystemExit with one line if `device` does not work on this machine."""
    try:
        torch.ones(1, device=device).sum().item()
    # a torch built without support for the device says so with an assertion
    except (RuntimeError, AssertionError) as error:
        reason = textwrap.shorten(str(error), 150, placeholder="...")
        sys.exit(f"[ERROR] {device} does not work here ({reason}): try --device cpu")


def warn_of_slow_bf16(device):
    """Print a line if `device` is slower in bf16 than in fp32."""
    if not bf16_is_fast(device):
        print(f"[WARNING] --amp makes it slower here: {device} emulates bf16", file=sys.stderr)


def bf16_is_fast(device):
    """Return whether `device` multiplies matrices faster in bf16 than in fp32: some emulate it."""

    def seconds(dtype):
        matrix = torch.ones(2048, 2048, dtype=dtype, device=device)
        for _ in range(2):
            # the first time warms up, and a number is there only when the product is
            start = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
        return time.perf_counter() - start

    return seconds(torch.bfloat16) < seconds(torch.float32)


def _keep_memory():
    """Have glibc keep freed memory: each step of a training wants again what the last one freed.

    Other systems' C libraries are left as they are.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # M_MMAP_THRESHOLD at its greatest, and M_TRIM_THRESHOLD, in bytes: see `man mallopt`
        mallopt(-3, 32 * 2**20)
        mallopt(-1, 2**30)


def run(main):
    """Call `main` as a program: lines show at once, Ctrl-C leaves no traceback."""
    _keep_memory()
    # numbers too small for full precision count as 0: they would take a processor much longer
    torch.set_flush_denormal(True)
    # a terminal without Hiragana shows a question mark
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # whoever read the lines, `head` say, is gone; let Python flush the rest to nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
