"""What both scripts share: the types of their flags, the device, and errors in one line."""

from modules.messages import UserError, warn

import argparse
import math
import os
import re
import sys
from pathlib import Path

import torch


def number(convert, is_valid, expected):
    """Return a `type` for argparse: int or float, of which `is_valid` is true."""

    def parse(text):
        value = convert(text)
        if not is_valid(value):
            raise argparse.ArgumentTypeError(f"{text} must be {expected}")
        return value

    # argparse shows it if `convert` fails: invalid int value
    parse.__name__ = convert.__name__
    return parse


positive_int = number(int, range(1, 2**31).__contains__, "from 1 to 2147483647")
positive_float = number(float, lambda value: 0 < value < math.inf, "above 0")
fraction = number(float, lambda value: 0 < value < 1, "above 0 and below 1")
seed = number(int, range(2**32).__contains__, "from 0 to 4294967295")


def path(text):
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    # a shell expands ~ at the start of a word only, and on Windows never
    return Path(os.path.expanduser(text))


def file_path(text):
    if path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: give the path of a file")
    return path(text)


def model_path(text):
    model = file_path(text)
    # --plot and --output, which are pictures, would replace it
    if model.suffix.lower() == ".png":
        raise argparse.ArgumentTypeError(f"{text} is the name of a picture, not of a model")
    return model


def png_path(text):
    # a file called just .png has no suffix
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text} is not the name of a .png file")
    return file_path(text)


DEVICE_HELP = "cpu, cuda, cuda:1, mps; auto: the accelerator if there is one, else the CPU"


def device(name):
    """Return a torch.device; `auto` is the accelerator if there is one that works, else the CPU."""
    is_auto = name == "auto"
    if is_auto:
        name = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    try:
        ones = torch.ones(1, device=name)
        # the device `meta`, for example, has no values
        ones.item()
        return ones.device
    # each kind of device raises its own errors
    except Exception as error:
        # the first sentence: some go on with a list of what PyTorch was built for
        cause = str(error).partition("\n")[0].partition(". ")[0]
        reason = f"{name} does not work here ({cause})"
        if not is_auto:
            raise argparse.ArgumentTypeError(f"{reason}: try --device cpu") from error
        warn(f"using the CPU, because {reason}")
        return torch.device("cpu")


def run(main):
    """Call main(); end with one line where the user can mend what is wrong."""
    # faster on a CPU: treat denormals, numbers too small for full precision, as 0; threads that
    # are started later do the same
    torch.set_flush_denormal(True)
    # show each line at once, also in a pipe, and "?" where a terminal cannot show a file's name;
    # the windows of IDLE and of notebooks do so themselves
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        main()
    except KeyboardInterrupt:
        print("\n[INFO] stopped")
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        # what GPUs and the CPU say
        is_other = not re.search("out of memory|DefaultCPUAllocator", str(error))
        if isinstance(error, RuntimeError) and is_other:
            raise
        sys.exit("[ERROR] out of memory: try --device cpu, or train.py with a smaller --batch-size")
    except UserError as error:
        sys.exit(f"[ERROR] {error}")
    except OSError as error:
        if not error.filename:
            sys.exit(f"[ERROR] {error.strerror or error}")
        sys.exit(f"[ERROR] {error.filename}: {error.strerror}: check the path, or choose another")
