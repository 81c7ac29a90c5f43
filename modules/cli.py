"""What the command lines of train.py and predict.py share: checked flags, device, clean ends."""

import argparse
import ctypes
import math
import os
import shlex
import signal
import subprocess
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
switch = _checked({"True": True, "False": False}.get, lambda on: on is not None, "True or False")
png_path = _checked(Path, lambda path: path.suffix.lower() == ".png", "a file name ending in .png")
device = _checked(
    lambda name: _best_device() if name == "auto" else torch.device(name),
    lambda device: True,
    "a device such as cpu, cuda or cuda:1",
)

# what decides how a training goes, as a model file keeps it, and the check of each
SETTINGS = {
    "epochs": positive_int,
    "batch_size": positive_int,
    "lr": positive_float,
    "val_split": fraction,
    "augment": switch,
    "amp": switch,
    "seed": seed,
}
# what the user should know when the program is stopped: see advise_if_stopped()
_advice = []


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


def parse_again(parser, settings, source):
    """Return the command line's arguments with `settings`, a dict, in place of the defaults.

    They are those of a training that goes on, from the file `source`: raises SystemExit with one
    line, naming them, where flags ask for others.
    """
    parser.set_defaults(**settings)
    args = parser.parse_args()
    # what was found the first time is what goes on
    if args.dataset == "auto":
        args.dataset = settings["dataset"]
    others = [name for name, value in settings.items() if getattr(args, name) != value]
    # more epochs are just more of the same, unless the learning rate follows from their number
    if "epochs" in others and not settings["augment"]:
        others.remove("epochs")
    if others:
        flags = ", ".join(f"--{name.replace('_', '-')} is {settings[name]}" for name in others)
        sys.exit(
            f"[ERROR] {flags} in {source}: leave what differs out to go on with it, or train anew "
            "without --resume"
        )
    return args


def check_device(device):
    """Raise SystemExit with one line if `device` does not work on this machine."""
    try:
        torch.ones(1, device=device).sum().item()
    # torch says in many ways that it was built without support for a device
    except Exception as error:
        reason = textwrap.shorten(str(error), 150, placeholder="...")
        sys.exit(f"[ERROR] {device} does not work here ({reason}): try --device cpu")


def warn_of_slow_bf16(device):
    """Print a line if `device` is slower in bf16 than in fp32."""
    if not bf16_is_fast(device):
        print(f"[WARNING] --amp makes it slower here: {device} emulates bf16", file=sys.stderr)


def bf16_is_fast(device):
    """Return whether `device` multiplies matrices faster in bf16 than in fp32: some emulate it."""

    def seconds(dtype):
        matrix = torch.ones(1024, 1024, dtype=dtype, device=device)
        times = []
        for _ in range(5):
            # a number is there only when the product is
            start = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            times.append(time.perf_counter() - start)
        # the first times warm up, others may be disturbed
        return min(times)

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


def advise_if_stopped(model, epoch, epochs):
    """Have run() say, if the user stops the program, that the file `model` holds this epoch."""
    if epoch:
        resume = [] if "--resume" in sys.argv else ["--resume"]
        join = subprocess.list2cmdline if os.name == "nt" else shlex.join
        command = join([sys.executable, *sys.argv, *resume])
        _advice[:] = [f": {model} holds epoch {epoch} of {epochs}, this goes on: {command}"]
    else:
        _advice[:] = [f" before an epoch was finished: {model} was not touched"]


def _stop(number, frame):
    raise KeyboardInterrupt(128 + number)


def _print_no_more():
    """Have Python flush to nowhere what it could not print.

    Whoever read it, `head` say, is gone, or the file it went to is on a full disk.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(main):
    """Call `main` as a program: lines show at once, and nothing a user does leaves a traceback."""
    _keep_memory()
    # numbers too small for full precision count as 0: they would take a processor much longer
    torch.set_flush_denormal(True)
    # a terminal without Hiragana shows a question mark
    with suppress(AttributeError):
        # where Python has its own window, IDLE, nothing needs this
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    # Ctrl-C, and what a machine that shuts down sends
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        main()
    except KeyboardInterrupt as stop:
        # nothing cuts this short
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        try:
            print(f"[INFO] stopped{''.join(_advice)}")
        except OSError:
            _print_no_more()
        sys.exit(stop.args[0])
    except (MemoryError, RuntimeError) as error:
        # torch reports it as a RuntimeError of its own on an accelerator, and of any kind on a CPU
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "allocate memory" not in str(error):
            raise
        sys.exit("[ERROR] the memory is full: a smaller --batch-size takes less when training")
    except OSError as error:
        _print_no_more()
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"[ERROR] {error.strerror}: stopped")
