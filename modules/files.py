"""Files are written whole or not at all, and whether they can be is found out early."""

import os
import platform
import re
import sys
import time
from contextlib import contextmanager
from contextlib import suppress


def check_writable(*paths):
    """Make the folders that the files `paths` go to, and try whether they can be written there.

    Raises SystemExit with one line where one cannot.
    """
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        sys.exit(f"[ERROR] {paths[0]} cannot hold two results: name a file for each")
    for path in paths:
        with _one_line_error(path):
            if path.exists() and not path.is_file():
                sys.exit(f"[ERROR] {path} is not a file: name the file to save to")
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside(path.resolve()) as temporary:
                temporary.touch()


def save_result(path, data):
    """Do what write_whole() does, but raise SystemExit with one line where it cannot be done."""
    with _one_line_error(path):
        write_whole(path, data)


def write_whole(path, data):
    """Write the bytes `data` to the file `path`; whatever happens, the old or the new one is there.

    Raises OSError.
    """
    # write beside the file and move into place; a link stays, the file it points to is replaced
    with beside(path.resolve()) as temporary:
        with temporary.open("wb") as file:
            file.write(data)
            # on the disk before it has the name: a machine may lose its power, too
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path.resolve())


@contextmanager
def beside(path):
    """Give the name of a temporary file in the same folder, and leave no such file behind."""
    remove_leftovers(path)
    temporary = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}.partial")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path):
    """Remove temporary files of `path` that killed runs left."""
    # the names that beside() gives, and those that torch's download makes of them
    names = rf"{re.escape(path.name)}\.(.*)\.(\d+)\.partial(\.[0-9a-f]{{32}}\.partial)?"
    with suppress(OSError):
        for leftover in path.parent.iterdir():
            made_by = re.fullmatch(names, leftover.name)
            if made_by and not _in_use(leftover, made_by[1], int(made_by[2])):
                leftover.unlink()


def _in_use(temporary, node, pid):
    """Return whether a process may still be writing the file: one of this machine, or young."""
    if os.name == "posix" and node == platform.node():
        try:
            # signal 0 is never delivered: it only asks whether there is such a process
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (PermissionError, OverflowError):
            pass
    # other machines may share the folder, and another process may have got the number
    return time.time() - temporary.stat().st_mtime < 60


@contextmanager
def _one_line_error(path):
    try:
        yield
    # links that lead to themselves are a RuntimeError
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        sys.exit(f"[ERROR] {path} cannot be written ({reason}): choose another place")
