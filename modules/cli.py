"""What both scripts share: the types of their flags, progress bars, and errors in one line."""

from modules.errors import UserError, warn

import argparse
import math
import os
import sys
from pathlib import Path

import torch
from tqdm import tqdm


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
seed = number(int, -1, 2**32)


def path(text):
    # a shell expands ~ at the start of a word only, and on Windows never
    return Path(os.path.expanduser(text))


def file_path(text):
    if path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: give the path of a file")
    return path(text)


def png_path(text):
    # a file called just .png has no suffix
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text} is not the name of a .png file")
    return file_path(text)


DEVICES = "cpu, cuda, cuda:1 or 1, mps; auto: the accelerator if there is one, else the CPU"


def device(name):
    """Return a torch.device; `auto` is the accelerator if there is one that works, else the CPU."""
    is_auto = name == "auto"
    if is_auto:
        name = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    elif name.isdecimal():
        name = f"cuda:{name}"
    elif name == "gpu":
        name = "cuda"
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


def in_terminal():
    """Return whether standard error can show progress bars."""
    # IDLE and notebooks replace it by an object that cannot overwrite a line; pythonw has none
    is_replaced = sys.stderr is not sys.__stderr__
    return sys.stderr is not None and not is_replaced and sys.stderr.isatty()


def progress_bar(loader, description):
    """Wrap a loader or a list: in a terminal, looping over it shows a progress bar."""
    return tqdm(loader, description, leave=False, disable=not in_terminal())


def run(main, stopped="stopped"):
    """Call main(); end with one line and an exit status on errors that the user can fix.

    stopped: what to print after Ctrl-C.
    """
    # show each line at once, also in a pipe, and "?" where a terminal cannot show a file's name;
    # the windows of IDLE and of notebooks do so themselves
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        main()
    except KeyboardInterrupt:
        print(f"\n[INFO] {stopped}")
        sys.exit(130)
    except BrokenPipeError:
        # whoever read the output has left, as in `| head`: discard the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        # what a GPU and the CPU say (torch.OutOfMemoryError is a RuntimeError, on some GPUs alone)
        texts = ["out of memory", "DefaultCPUAllocator"]
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in texts):
            raise
        sys.exit("[ERROR] out of memory: try --device cpu, or train.py with a smaller --batch-size")
    except UserError as error:
        sys.exit(f"[ERROR] {error}")
    except ModuleNotFoundError as error:
        # of a package that not every training needs, such as OpenCV
        sys.exit(f"[ERROR] {error}: pip install -r requirements.txt in the activated environment")
    except OSError as error:
        if not error.filename:
            sys.exit(f"[ERROR] {error}")
        sys.exit(f"[ERROR] {error.filename}: {error.strerror}: check the path, or choose another")
