"""Find and read a user's picture files."""

from modules.messages import UserError

import logging
import warnings
from glob import escape, glob
from os.path import realpath
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# pixels: a JPEG is read at a fraction of its size, but at least this large
LARGE = 1024
# kinds of pictures that Pillow may not read, so that find_pictures() does not pass them over
OTHER_SUFFIXES = {".avif", ".dng", ".heic", ".heif", ".pdf", ".svg"}
SUFFIXES = {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}
SUFFIXES |= OTHER_SUFFIXES
# what Pillow logs about a file's structure would go to standard error
logging.getLogger("PIL").addHandler(logging.NullHandler())


def is_picture(path, folder):
    """Return whether a path has a picture's name and is not hidden, nor in a hidden subfolder."""
    hidden = [part for part in Path(path).relative_to(folder).parts if part.startswith(".")]
    return Path(path).suffix.lower() in SUFFIXES and not hidden


def find_pictures(paths, output=None):
    """Return `paths`, with each pattern replaced by its files, each folder by the pictures in it.

    Subfolders are searched, too; hidden files are left out. What has no pictures stays as it is.
    Raises UserError if one is the file `output`, which would be overwritten.
    """
    files = []
    for path in paths:
        matches = []
        if not path.exists():
            # on Windows, no shell replaces *.jpg by the files; a folder's name may have brackets
            folder = next((parent for parent in path.parents if parent.exists()), path.parent)
            pattern = Path(escape(str(folder)), path.relative_to(folder))
            matches = [Path(file) for file in sorted(glob(str(pattern)))]  # noqa: PTH207
        for match in matches or [path]:
            inside = [file for file in sorted(match.rglob("*")) if file.is_file()]
            files += [file for file in inside if is_picture(file, match)] or [match]
    if output and realpath(output) in map(realpath, files):
        raise UserError(f"{output} is one of your pictures: choose another --output")
    return files


def read_picture(path):
    """Return the picture in a file, upright and without transparency: an RGB Pillow image.

    Of several pictures in a file, it is the first. Raises UserError if there is none.
    """
    if Path(path).is_dir():
        raise UserError("no picture in this folder: choose another")
    try:
        with warnings.catch_warnings():
            # of odd metadata, or of more than 89 megapixels: Pillow refuses twice as much
            warnings.simplefilter("ignore")
            picture = open_picture(path)
    except FileNotFoundError as error:
        raise UserError("does not exist: check the path") from error
    except Image.DecompressionBombError as error:
        raise UserError("larger than 178 megapixels: save it smaller") from error
    # Pillow raises many kinds of errors for a damaged file
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition(" '")[0]
        raise UserError(f"{reason}: choose a JPEG or PNG file") from error

    # behind the transparent pixels: white paper or, where all ink is light, black
    alpha = np.asarray(picture)[..., 3]
    ink = np.asarray(picture.convert("L"))[alpha > 127]
    is_light = ink.size < alpha.size and ink.size > 0 and ink.min() > 127
    paper = Image.new("RGBA", picture.size, "black" if is_light else "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")


def open_picture(path):
    """Return the picture in a file as an RGBA Pillow image."""
    with Image.open(path) as file:
        file.draft("RGB", (LARGE, LARGE))
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I"):
            # convert() would clip 16 bits instead of scaling them
            values = np.asarray(picture)
            values = values * (255 / max(255, values.max()))
            picture = Image.fromarray(values.astype(np.uint8))
        return picture.convert("RGBA")
