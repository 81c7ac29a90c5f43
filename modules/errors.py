"""What the user can fix: one exception, and warnings."""

import sys


class UserError(ValueError):
    """Says in one line what is wrong and what to do. cli.run() prints it and ends the script."""


def warn(text):
    print(f"[WARNING] {text}", file=sys.stderr)
