"""A user's own pictures: brought to KMNIST's form, or refused one by one."""

import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
import torch
from conftest import REAL_KMNIST
from conftest import assert_one_line
from forks import fork_script
from test_train import log_probs_of
from test_train import read_split

from modules.ink import read_picture
from modules.ink import to_kmnist


def on_paper(image, rng, dark):
    """Return an image, (28, 28) uint8, as ink on a picture of 300×300, somewhere, of some size.

    The paper has a texture, a shade across it, and the noise of a camera.
    """
    size = rng.integers(60, 260)
    ink = np.zeros((300, 300), np.float32)
    top, left = rng.integers(0, 300 - size, 2)
    large = cv2.resize(image.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    ink[top : top + size, left : left + size] = large.clip(0, 255) / 255
    paper, stroke = rng.uniform((170, 20), (230, 90)) if dark else rng.uniform((15, 160), (60, 240))
    rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
    shade = rows * rng.uniform(-30, 30) + columns * rng.uniform(-30, 30)
    texture = cv2.GaussianBlur(rng.normal(0, 28, (300, 300)), (0, 0), 2)
    picture = paper + (stroke - paper) * ink + shade + texture + rng.normal(0, 6, (300, 300))
    return picture.clip(0, 255).astype(np.uint8)


def character(kana="ま", size=200):
    """Return a printed character, (300, 300) uint8, black on white."""
    picture = np.full((300, 300), 255, np.uint8)
    cv2.putText(picture, kana, (50, 230), 0, cv2.FontFace("sans"), size=size)
    return picture


@pytest.mark.parametrize("dark", [True, False], ids=["dark on light", "light on dark"])
def test_pictures_are_read_nearly_as_well_as_kmnist(dark, data, trained, request):
    """On real KMNIST where it is, else on printed Hiragana, whose characters do not fill images."""
    real = REAL_KMNIST.is_dir()
    root = REAL_KMNIST if real else data
    model = (request.getfixturevalue("real_trained") if real else trained).model
    images, labels = (values[:400] for values in read_split(root, "t10k"))
    originals = (255 * images[:, 0]).round().byte().numpy()
    if not real:
        originals = np.stack([to_kmnist(image) for image in originals])

    rng = np.random.default_rng(0)
    seen = np.zeros_like(originals)
    for number, image in enumerate(originals):
        # a few look like two characters, or like none: they stay black, and count as wrong
        with suppress(ValueError):
            seen[number] = to_kmnist(on_paper(image, rng, dark))

    def accuracy(images):
        log_probs = log_probs_of(model, torch.tensor(images)[:, None] / 255)
        return (log_probs.argmax(dim=1) == labels).double().mean().item()

    assert accuracy(seen) > accuracy(originals) - 0.03


def test_every_kind_of_picture_gives_the_same_image(tmp_path):
    picture = character()
    expected = to_kmnist(picture)
    transparent = np.dstack([np.zeros((300, 300, 3), np.uint8), 255 - picture])
    kinds = {
        "grey.png": picture,
        "colour.png": cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR),
        "light on dark.png": 255 - picture,
        "black on nothing.png": transparent,
        "white on nothing.png": np.dstack([np.full((300, 300, 3), 255, np.uint8), 255 - picture]),
        "margin.png": cv2.copyMakeBorder(
            np.dstack([picture] * 3 + [np.full_like(picture, 255)]),
            *[30] * 4,
            cv2.BORDER_CONSTANT,
            value=(0, 0, 0, 0),
        ),
        "16 bit.tiff": picture.astype(np.uint16) * 257,
        "photograph.jpg": picture,
        "おお.webp": picture,
    }
    for name, kind in kinds.items():
        content = cv2.imencode(name[name.rindex(".") :], kind)[1]
        (tmp_path / name).write_bytes(content.tobytes())
        image = to_kmnist(read_picture(tmp_path / name))
        assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)
        assert np.abs(image.astype(int) - expected).mean() < 3, name


def test_photograph_is_turned_as_the_camera_was(tmp_path):
    # what EXIF says in one entry: orientation 6, turn it a quarter to the right
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    lying = cv2.rotate(character(), cv2.ROTATE_90_COUNTERCLOCKWISE)
    jpeg = cv2.imencode(".jpg", lying)[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "photograph.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    image = to_kmnist(read_picture(tmp_path / "photograph.jpg"))
    assert np.abs(image.astype(int) - to_kmnist(character())).mean() < 3


@pytest.mark.parametrize("size", [(28, 28), (40, 2000), (3000, 1000)])
def test_any_size(size):
    # a character of 28 pixels, which is enlarged with the picture where that has room
    scale = min(size) // 28
    ink = cv2.resize(to_kmnist(character()), None, fx=scale, fy=scale)
    picture = np.zeros(size, np.uint8)
    picture[: len(ink), : len(ink)] = ink
    assert np.abs(to_kmnist(picture).astype(int) - to_kmnist(character())).mean() < 20


@pytest.mark.parametrize("light", ["paper on a table", "a shadow in the corner", "from one side"])
@pytest.mark.parametrize("invert", [False, True])
def test_photographs_with_more_than_paper_on_them(light, invert):
    ink = np.zeros((1600, 1200))
    ink[700:1000, 450:750] = 1 - character() / 255
    rows, columns = np.mgrid[0:1:1600j, 0:1:1200j]
    paper = {
        "paper on a table": np.where(
            (abs(rows - 0.5) < 0.35) & (abs(columns - 0.5) < 0.33), 210, 60
        ),
        "a shadow in the corner": np.where(rows + columns < 0.6, 126, 210),
        "from one side": 210 - 105 * columns,
    }[light]
    noise = np.random.default_rng(0).normal(0, 5, ink.shape)
    picture = (paper * (1 - 0.8 * ink) + noise).clip(0, 255).astype(np.uint8)
    picture = cv2.GaussianBlur(255 - picture if invert else picture, (0, 0), 1.5)
    assert np.abs(to_kmnist(picture).astype(int) - to_kmnist(character())).mean() < 30


def test_fine_pen_is_seen_as_a_thick_one():
    fine = np.full((300, 300), 255, np.uint8)
    cv2.polylines(fine, [np.array([[60, 80], [240, 80], [100, 250], [240, 250]])], False, 0, 2)
    assert (to_kmnist(fine) > 200).sum() > 60


def png(width, height):
    """Return a PNG file that claims a size, and holds next to nothing."""

    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def plain(value):
    return cv2.imencode(".png", np.full((200, 200), value, np.uint8))[1].tobytes()


def bad_pictures():
    """Return contents of files, and what is said of them."""
    two = np.hstack([character("き"), character("ま")])
    whole = cv2.imencode(".jpg", character())[1].tobytes()
    grain = np.random.default_rng(0).normal(128, 8, (300, 300)).astype(np.uint8)
    return {
        "text.png": (b"hello\n", "no picture"),
        "empty.png": (b"", "no picture"),
        "0x0.png": (png(0, 0), "no picture"),
        "1x1.png": (cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes(), "too small"),
        "narrow.png": (cv2.imencode(".png", np.zeros((2, 900), np.uint8))[1].tobytes(), "narrow"),
        "20000.png": (png(20000, 20000), "too many pixels"),
        "lie.png": (png(5000, 5000), "no picture"),
        "ribbon.png": (cv2.imencode(".png", np.zeros((8, 9000), np.uint8))[1].tobytes(), "narrow"),
        "cut.jpg": (whole[:300], "no picture"),
        "black.png": (plain(0), "nothing"),
        "white.png": (plain(255), "nothing"),
        "grey.png": (plain(128), "nothing"),
        "grain.png": (cv2.imencode(".png", grain)[1].tobytes(), "nothing"),
        "two.png": (cv2.imencode(".png", two)[1].tobytes(), "two characters"),
    }


def test_bad_pictures_are_named_and_the_others_shown(trained, tmp_path):
    folder, empty = tmp_path / "folder", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    for name, (content, _) in bad_pictures().items():
        (folder / name).write_bytes(content)
    cv2.imwrite(str(folder / "good.png"), character())
    (folder / "notes.txt").write_text("no picture, and not taken for one")

    montage, missing = tmp_path / "montage.png", tmp_path / "missing.png"
    run = fork_script(
        "predict.py", "-m", trained.model, "-o", montage, "--image", folder, empty, missing
    )
    assert run.returncode == 1
    said = {folder / name: words for name, (_, words) in bad_pictures().items()}
    said |= {empty: "no picture in this folder", missing: "no such file"}
    lines = run.stderr.splitlines()
    assert len(lines) == len(said)
    for path, words in said.items():
        (line,) = [line for line in lines if line.startswith(f"[ERROR] {path}: ")]
        assert words in line
    assert run.stdout.count("predicted label: ") == 1
    assert f"[INFO] {folder / 'good.png'}: predicted label: " in run.stdout
    # what was given, and what the network saw
    assert cv2.imread(str(montage)).shape == (270, 441, 3)


def test_bad_pictures_alone(trained, tmp_path):
    montage = tmp_path / "montage.png"
    run = fork_script("predict.py", "-m", trained.model, "-o", montage, "-i", tmp_path / "x.png")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"[ERROR] {tmp_path / 'x.png'}: there is no such file\n"
    assert not montage.exists()


def test_own_picture_is_not_overwritten(trained, tmp_path, call_main):
    picture = tmp_path / "mine.png"
    cv2.imwrite(str(picture), character())
    before = picture.read_bytes()
    run = call_main("predict.py", "-m", trained.model, "-i", tmp_path, "-o", picture)
    assert_one_line(run, 1, picture, "-o")
    assert picture.read_bytes() == before
