"""Picture files: found in folders, opened, and brought to one form."""

from modules.layouts import visible
from modules.messages import UserError

import os
import warnings
from glob import escape, glob
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# pixels: a larger picture is reduced, but not below this: a JPEG while it is decoded, which is
# fast; another after that
LARGE_JPEG, LARGE = 1024, 2048
# the names that pictures have; the kinds in the second line are named where Pillow cannot read them
SUFFIXES = {".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm"}
SUFFIXES |= {".tga", ".tif", ".tiff", ".webp", ".avif", ".dng", ".heic", ".heif"}


def find_pictures_in(folder):
    """Return the pictures in a folder and its subfolders, sorted, without hidden ones.

    Links to folders are followed, but not in a circle.
    """
    files, seen = [], {os.path.realpath(path) for path in (folder, *folder.absolute().parents)}
    for root, subfolders, _ in os.walk(folder, followlinks=True):
        inside = {path: os.path.realpath(path) for path in visible(Path(root))}
        files += [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        subfolders[:] = []
        for path in sorted(inside):
            if path.is_dir() and inside[path] not in seen:
                subfolders.append(path.name)
                seen.add(inside[path])
    return sorted(files)


def find_pictures(paths, output):
    """Return `paths`, with each pattern replaced by its files, each folder by the pictures in it.

    What has no pictures stays as it is. The file `output`, which will be overwritten, is left out
    of a folder; if it is named, UserError is raised.
    """

    def is_output(path):
        return output.exists() and path.exists() and output.samefile(path)

    files = []
    for path in paths:
        matches = [path]
        if not path.exists():
            # on Windows, no shell replaces *.jpg by the files; a folder's name may have brackets
            folder = next((parent for parent in path.parents if parent.exists()), path.parent)
            pattern = Path(escape(str(folder)), path.relative_to(folder))
            matches = [Path(file) for file in sorted(glob(str(pattern)))] or [path]  # noqa: PTH207
        for match in matches:
            inside = [file for file in find_pictures_in(match) if not is_output(file)]
            files += inside or [match]
    if any(map(is_output, files)):
        raise UserError(f"{output} is one of your pictures: choose another --output")
    return files


def read_picture(path):
    """Return the first picture in a file, upright: an RGB Pillow image without transparency.

    path: of the file, or the file itself, open in binary mode. Raises UserError if there is no
    picture in it, OSError if the disk or the network fails.
    """
    if isinstance(path, (str, Path)) and Path(path).is_dir():
        raise UserError("no picture in this folder: choose another")
    try:
        with warnings.catch_warnings():
            # of odd metadata, or of more than 89 megapixels: Pillow refuses twice as much
            warnings.simplefilter("ignore")
            return to_rgb(open_picture(path))
    except FileNotFoundError as error:
        raise UserError("does not exist: check the path") from error
    except Image.DecompressionBombError as error:
        raise UserError("larger than 178 megapixels: save it smaller") from error
    # Pillow raises errors of many kinds for damaged files
    except Exception as error:
        # what the disk or the network says has a number
        if getattr(error, "errno", None):
            error.filename = error.filename or str(path)
            raise
        # of other kinds of files, Pillow says the path, too
        is_other = isinstance(error, UnidentifiedImageError)
        reason = "cannot identify image file" if is_other else str(error) or type(error).__name__
        raise UserError(f"{reason}: choose a JPEG or PNG file") from error


def open_picture(path):
    """Return the picture in a file, upright and reduced if it is very large: a Pillow image."""
    with Image.open(path) as file:
        file.draft("RGB", (LARGE_JPEG, LARGE_JPEG))
        picture = ImageOps.exif_transpose(file)
        factor = max(picture.size) // LARGE
        if factor > 1:
            # reduce() does not take single bits, palettes and 16 bits
            modes = {"1": "L", "P": "RGBA", "PA": "RGBA", "I;16": "I", "I;16B": "I"}
            picture = picture.convert(modes.get(picture.mode, picture.mode)).reduce(factor)
        return picture


def to_rgb(picture):
    """Return a Pillow image of any mode as RGB; what is transparent becomes paper.

    The paper is white or, if all ink is light, black.
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode[0] in "IF":
        # convert() would clip 16 bits, and fractions, instead of scaling them
        values = np.nan_to_num(np.asarray(picture, np.float32)).clip(min=0)
        white = next(white for white in (1, 255, values.max()) if values.max() <= white)
        picture = Image.fromarray((values * (255 / white)).astype(np.uint8))
    picture = picture.convert("RGBA")
    alpha = np.asarray(picture)[..., 3]
    ink = np.asarray(picture.convert("L"))[alpha > 127]
    is_light = ink.size < alpha.size and ink.size > 0 and ink.min() > 127
    paper = Image.new("RGBA", picture.size, "black" if is_light else "white")
    paper.alpha_composite(picture)
    return paper.convert("RGB")
