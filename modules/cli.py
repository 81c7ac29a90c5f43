"""What both scripts share: the types of their options, and errors in one line."""

from modules import checkpoint, devices
from modules.layouts import find_dataset, holds
from modules.messages import UserError

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of each option that has one, not "(default: None)"."""

    def _get_help_string(self, action):
        has_default = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_default else action.help


def number(text, kind):
    try:
        return kind(text)
    except ValueError:
        name = "whole number" if kind is int else "number"
        raise argparse.ArgumentTypeError(f"{text} is not a {name}") from None


def positive_int(text):
    value = number(text, int)
    if not 0 < value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} must be from 1 to {2**31 - 1}")
    return value


def seed(text):
    value = number(text, int)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} must be from 0 to {2**32 - 1}")
    return value


def between_0_and_1(text):
    value = number(text, float)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and below 1")
    return value


def path(text):
    """Return a path; a shell expands ~ at the start of a word only, and on Windows never."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(os.path.expanduser(text))


def file_path(text):
    """Return the path of a file, in a folder that is there or can be made."""
    file = path(text)
    if file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: give the path of a file")
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{text} is a device, not a file: choose another path")
    nearest = next(folder for folder in file.parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise argparse.ArgumentTypeError(f"{nearest} is not a folder: rename it, or choose another")
    return file


def model_path(text):
    file = file_path(text)
    # --plot and --output, which are pictures, would replace it
    if file.suffix.lower() == ".png":
        raise argparse.ArgumentTypeError(f"{text} is the name of a picture, not of a model")
    return file


def png_path(text):
    # a file called just .png has no suffix
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text} is not the name of a .png file")
    return file_path(text)


def with_saved_options(args, parser):
    """Return the arguments of train.py: with --resume, the checkpoint's, unless they are given.

    use_bfloat16, which is added, says whether --amp has an effect on this device.
    """
    if args.resume:
        args = keep_settings(parser, args)
    elif args.dataset == "synthetic" and args.data:
        parser.error("--dataset synthetic is drawn, not read: leave --data or --dataset out")
    # not where it would be slower; args.amp, which the checkpoint keeps, stays as it is
    args.use_bfloat16 = args.amp and devices.has_bfloat16(args.device)
    return args


def keep_settings(parser, args):
    """Return the arguments of --resume: those of the checkpoint, and what is given beside them.

    An option that contradicts the checkpoint ends the script. Raises UserError if it cannot be
    resumed, or if --data holds another dataset, OSError if the checkpoint cannot be read.
    """
    saved = checkpoint.load_checkpoint(args.model)
    if not {"settings", "checksum", "history", "optimizer", "random_state"} <= saved.keys():
        raise UserError(f"{args.model} has no training state: train again without --resume")
    # parse the options once more: those that are not given now default to the checkpoint's
    kept, folder = {**saved["settings"], "dataset": saved["dataset"]}, args.data
    name = kept["dataset"]
    if name == "synthetic" and folder:
        parser.error(f"{args.model} was trained on synthetic Hiragana: leave --data out")
    parser.set_defaults(**kept, data=Path(saved["data"]), device=args.device)
    args = parser.parse_args()
    if args.dataset == "auto":
        args.dataset = name
    for option, value in kept.items():
        # more epochs are possible, unless the learning rates were chosen for their number
        if getattr(args, option) != value and (option != "epochs" or kept["augment"]):
            reason = ", on which the learning rates depend" if option == "epochs" else ""
            advice = f"leave --{option.replace('_', '-')} or --resume out"
            parser.error(f"--resume keeps {option} at {value}{reason}: {advice}")
    if name != "synthetic" and not args.data.is_dir():
        raise UserError(f"there is no dataset folder {args.data}: choose another --data")
    # KMNIST would be downloaded to a folder of pictures, and trained on
    if folder and not holds(name, folder) and find_dataset(folder) != name:
        raise UserError(
            f"{args.model} was not trained on what {folder} holds ({find_dataset(folder)}), but on "
            f"{name}: train on it without --resume, or choose another --data"
        )
    return args


def run(main):
    """Call main(); end with one line where the user can fix what is wrong."""
    # show each line at once, also in a pipe, and "?" where a terminal cannot show a file's name;
    # the windows of IDLE and of notebooks do so themselves
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    # the scripts say it in their own words
    warnings.filterwarnings("ignore", "Length of split at index")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        main()
    except KeyboardInterrupt:
        print("\n[INFO] stopped")
        if checkpoint.resume_command:
            print(f"[INFO] to go on: {checkpoint.resume_command}")
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        # PyTorch's errors, of GPUs and of the CPU, say what they could not allocate
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        sys.exit("[ERROR] out of memory: try --device cpu, or train.py with a smaller --batch-size")
    except UserError as error:
        sys.exit(f"[ERROR] {error}")
    except OSError as error:
        if not error.filename:
            sys.exit(f"[ERROR] {error.strerror or error}")
        sys.exit(f"[ERROR] {error.filename}: {error.strerror}: check the path, or choose another")
