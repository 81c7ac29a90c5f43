"""What the scripts tell the user: errors in one line, warnings and progress bars."""

import sys

from tqdm import tqdm


class UserError(ValueError):
    """Says in one line what is wrong and what to do. cli.run() prints it and ends the script."""


def warn(text):
    # write() starts a line of its own where a progress bar is shown; pythonw has no standard error
    if sys.stderr is not None:
        tqdm.write(f"[WARNING] {text}", file=sys.stderr)


def in_terminal():
    """Return whether standard error can show progress bars."""
    # IDLE and notebooks replace it by an object that cannot overwrite a line; pythonw has none
    is_replaced = sys.stderr is not sys.__stderr__
    return sys.stderr is not None and not is_replaced and sys.stderr.isatty()


def progress_bar(loader, description):
    """Wrap a loader or a list: in a terminal, looping over it shows a progress bar."""
    return tqdm(loader, description, leave=False, disable=not in_terminal())


def drawn_names(classes, can_draw):
    """Return the names of classes as they are drawn: `class 2` where can_draw(name) is false."""
    return [name if can_draw(name) else f"class {label}" for label, name in enumerate(classes)]


def explain_names(classes, names):
    """Print which classes have a number instead of their name."""
    numbered = [f"{new} is {name}" for name, new in zip(classes, names) if name != new]
    if numbered:
        print(f"[INFO] in the picture, {', '.join(numbered)}")
