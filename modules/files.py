"""Results on disk: found out early whether they can be saved, and saved whole."""

import sys
from contextlib import contextmanager


def check_writable(*paths):
    """Make the folders that the files `paths` go to, and try whether they can be written there.

    Raises SystemExit with one line where one cannot.
    """
    for path in paths:
        with _one_line_error(path):
            if path.exists() and not path.is_file():
                sys.exit(f"[ERROR] {path} is not a file: name the file to save to")
            path.parent.mkdir(parents=True, exist_ok=True)
            with _beside(path.resolve()) as temporary:
                temporary.touch()


def write_whole(path, data):
    """Write the bytes `data` to the file `path`; whatever happens, the old or the new one is there.

    Raises SystemExit with one line where it cannot be written.
    """
    # write beside the file and move into place; a link stays, the file it points to is replaced
    with _one_line_error(path), _beside(path.resolve()) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path.resolve())


@contextmanager
def _beside(path):
    """Give the name of a temporary file in the same folder, and leave no such file behind."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _one_line_error(path):
    try:
        yield
    except OSError as error:
        sys.exit(f"[ERROR] {path} cannot be written ({error.strerror}): choose another place")
