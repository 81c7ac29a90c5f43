"""A user's own pictures: brought to KMNIST's form, or refused one by one."""

from modules import own_pictures
from modules.pictures import find_pictures, read_picture
from modules.preprocess import find_character
from modules.strokes import draw_character

import contextlib
import errno
import os
import re
import sys
from io import BytesIO
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from conftest import (
    CLASSES,
    REAL_KMNIST,
    assert_one_line,
    character,
    read_split,
    run_python,
    run_script,
    skip_without_kmnist,
)
from PIL import Image, ImageDraw, ImageFont


def to_kmnist(picture):
    return find_character(picture)[0]


def on_paper(image, rng, dark):
    """Return an image, (28, 28), as ink on a picture of 300×300, somewhere, of some size.

    The paper has a texture, a shade across it, and the noise of a camera.
    """
    size = rng.integers(60, 260)
    ink = np.zeros((300, 300), np.float32)
    top, left = rng.integers(0, 300 - size, 2)
    large = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    ink[top : top + size, left : left + size] = large.clip(0, 1)
    paper, stroke = rng.uniform((170, 20), (230, 90)) if dark else rng.uniform((15, 160), (60, 240))
    rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
    shade = rows * rng.uniform(-30, 30) + columns * rng.uniform(-30, 30)
    texture = cv2.GaussianBlur(rng.normal(0, 28, (300, 300)), (0, 0), 2)
    picture = paper + (stroke - paper) * ink + shade + texture + rng.normal(0, 6, (300, 300))
    return picture.clip(0, 255).astype(np.uint8)


@pytest.fixture
def look_at(trained, tmp_path, call_main):
    """Give pictures to predict.py; return its labels by name, and the 28×28 image of the first."""

    def look_at(pictures, model=trained.model):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
        montage, paths = tmp_path / "montage.png", [folder / name for name in pictures]
        montage.unlink(missing_ok=True)
        run = call_main("predict.py", "-m", model, "-o", montage, "--no-display", "-i", *paths)
        found = re.findall(r"^\[INFO\] (.*): predicted label: (\w+)", run.stdout, re.M)
        # on the right is what the network sees
        seen = cv2.imread(str(montage), cv2.IMREAD_GRAYSCALE)[7:203, 210:406]
        image = cv2.resize(seen, (28, 28), interpolation=cv2.INTER_AREA)
        return {Path(path).name: label for path, label in found}, image

    return look_at


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.fixture(scope="module")
def kmnist_images():
    """200 of KMNIST's, (200, 28, 28) uint8."""
    skip_without_kmnist()
    images, _ = read_split(REAL_KMNIST, "t10k")
    return (255 * images[500:700, 0]).round().byte().numpy()


def share_alike(pictures, images):
    """Return the fraction of the pictures in which the images, (28, 28), are found."""
    alike = []
    for picture, image in zip(pictures, images):
        # a picture that is refused is not alike, either
        with contextlib.suppress(ValueError):
            found = to_kmnist(Image.fromarray(picture))
            blurred = [cv2.GaussianBlur(np.float32(k), (0, 0), 1).ravel() for k in (found, image)]
            alike.append(np.corrcoef(*blurred)[0, 1] > 0.7)
    return sum(alike) / len(images)


def enlarge(image):
    return cv2.resize(image, (280, 280), interpolation=cv2.INTER_CUBIC)


def test_kmnist_is_found_on_paper(kmnist_images):
    """In turns dark on light and light on dark."""
    rng = np.random.default_rng(0)
    images = kmnist_images[:100]
    papers = [on_paper(image / 255, rng, i % 2 == 0) for i, image in enumerate(images)]
    clean = [np.pad(enlarge(image), 60) for image in images]
    assert share_alike(papers, [to_kmnist(Image.fromarray(picture)) for picture in clean]) > 0.92


@pytest.mark.parametrize("is_dark", [True, False])
def test_kmnist_is_found_in_crops_without_a_margin(is_dark, kmnist_images):
    """Enlarged ten times, ink touches their edges."""
    crops = [255 - enlarge(image) if is_dark else enlarge(image) for image in kmnist_images]
    assert share_alike(crops, kmnist_images) > 0.92
    for image in kmnist_images[:20]:
        assert (to_kmnist(Image.fromarray(image)) == image).all()


def test_stroke_that_ends_at_the_edge_is_kept(look_at):
    picture = character()
    _, whole = look_at({"whole.png": png(picture)})
    left, top, width, height = cv2.boundingRect(255 - picture)
    # cut so that four strokes end at the edges
    cut = picture[top + 5 : top + height - 5, left + 5 : left + width - 5]
    _, image = look_at({"cut.png": png(cut)})
    assert np.abs(image.astype(int) - whole).mean() < 30
    assert (image > 200).sum() > 0.7 * (whole > 200).sum()


def test_image_like_kmnists_is_taken_as_it_is(look_at, data):
    images, _ = read_split(data, "t10k")
    image = (255 * images[0, 0]).byte().numpy()
    for picture in (image, 255 - image):
        _, seen = look_at({"28x28.png": png(picture)})
        assert (seen == image).all()


def test_small_picture_with_dark_ink_is_inverted_for_all_hiragana(
    trained, data, tmp_path, call_main
):
    """Only for classes of your own, pictures of this size stay as they are."""
    images, _ = read_split(data, "t10k")
    image = (255 * images[0, 0]).byte().numpy()
    paths = [tmp_path / "light.png", tmp_path / "dark.png"]
    for path, pixels in zip(paths, (image, 255 - image)):
        path.write_bytes(png(pixels))
    checkpoint = torch.load(trained.model)
    for kind in ("kmnist", "synthetic", None):
        torch.save(checkpoint | {"dataset": kind} if kind else checkpoint["model"], "m.pth")
        run = call_main("predict.py", "-m", "m.pth", "--no-display", "-i", *paths)
        light, dark = re.findall(r"predicted label: (.*)$", run.stdout, re.M)
        assert light == dark


def test_picture_of_12_bits(tmp_path):
    """In a file of 16: its brightest pixel is white."""
    values = np.full((100, 100), 4095, np.uint16)
    values[40:60, 40:60] = 200
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = np.asarray(read_picture(tmp_path / "a.png"))
    assert (pixels.min(), pixels.max()) == (12, 255)


def test_sticker_on_transparent_paper(tmp_path):
    """Its ink is dark, though most of it is light: the paper is white."""
    picture = np.zeros((100, 100, 4), np.uint8)
    picture[20:80, 20:80] = 255
    picture[40:60, 45:50, :3] = 0
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


def test_specks_are_left_out(look_at):
    _, expected = look_at({"clean.png": png(character())})
    picture = character()
    for x, y in ((15, 20), (280, 30), (20, 280), (285, 270)):
        cv2.circle(picture, (x, y), 3, 0, -1)
    _, image = look_at({"specks.png": png(picture)})
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_every_kind_of_picture_gives_the_same_image(look_at):
    picture = character()
    _, expected = look_at({"black on white.png": png(picture)})
    rows, columns = np.mgrid[0:1:300j, 0:1:300j]
    colour = np.dstack([255 - (255 - picture) // 2, picture, picture])
    kinds = {
        "colour.png": colour,
        "light on dark.png": 255 - picture,
        "black on nothing.png": np.dstack([np.zeros((300, 300, 3), np.uint8), 255 - picture]),
        "white on nothing.png": np.dstack([np.full((300, 300, 3), 255, np.uint8), 255 - picture]),
        "16 bit.tiff": picture.astype(np.uint16) * 257,
        "16 bit.png": picture.astype(np.uint16) * 257,
        "photograph.jpg": picture,
        "おお.webp": picture,
        "uneven light.jpg": (picture * (0.4 + 0.6 * columns * rows)).astype(np.uint8),
        "large.jpg": cv2.resize(picture, None, fx=9, fy=9),
        "108 megapixels.jpg": cv2.resize(picture, (10_400, 10_400)),
    }
    contents = {
        name: cv2.imencode(name[name.rindex(".") :], kind)[1].tobytes()
        for name, kind in kinds.items()
    }
    # big-endian, as OpenCV does not write it
    tiff = BytesIO()
    big = Image.frombytes("I;16B", (300, 300), (picture.astype(">u2") * 257).tobytes())
    big.save(tiff, "tiff")
    contents["big-endian.tiff"] = tiff.getvalue()
    for name, content in contents.items():
        _, image = look_at({name: content})
        # half a pixel to the side is a difference of 15
        assert np.abs(image.astype(int) - expected).mean() < 16, name


def test_pictures_keep_their_colors_and_their_order(trained, tmp_path, call_main):
    paths = [tmp_path / f"{name}.png" for name in ("c", "a", "b")]
    for path, color in zip(paths, [(255, 0, 0), (0, 160, 0), (0, 0, 255)]):
        picture = np.full((300, 300, 3), 255, np.uint8)
        # OpenCV writes blue, green, red
        picture[character() < 128] = color[::-1]
        cv2.imwrite(str(path), picture)
    montage = tmp_path / "montage.png"
    run = call_main("predict.py", "-m", trained.model, "-o", montage, "--no-display", "-i", *paths)
    assert re.findall(r"(\w)\.png: predicted", run.stdout) == ["c", "a", "b"]
    cards = np.hsplit(cv2.imread(str(montage)).astype(int)[:, :, ::-1], 3)
    for channel, card in enumerate(cards):
        picture = card[7:203, 7:203]
        others = np.delete(picture, channel, axis=2).max(axis=2)
        assert (picture[..., channel] - others > 100).sum() > 500


def test_name_that_the_terminal_cannot_show(trained, tmp_path):
    picture = tmp_path / "おお.png"
    picture.write_bytes(png(character()))
    flags = ["-m", trained.model, "-o", tmp_path / "o.png", "--no-display", "-i", picture]
    run = run_script("predict.py", *flags, PYTHONIOENCODING="ascii")
    assert (run.returncode, run.stderr) == (0, "")
    assert "??.png: predicted label" in run.stdout


def test_fine_pen_is_seen_as_a_thick_one(look_at):
    fine = np.full((300, 300), 255, np.uint8)
    cv2.polylines(fine, [np.array([[60, 80], [240, 80], [100, 250], [240, 250]])], False, 0, 2)
    _, image = look_at({"fine.png": png(fine)})
    # two pixels wide, as KMNIST's strokes are, and not four
    assert 60 < (image > 200).sum() < 260


def test_thin_strokes_of_a_tall_character_are_thickened():
    tall = np.full((400, 200), 255, np.uint8)
    cv2.line(tall, (80, 30), (120, 370), 0, 3)
    image = to_kmnist(Image.fromarray(tall))
    # two pixels wide, by the longer side
    assert 1.4 < (image > 127).sum(axis=1).mean() < 3


def test_thin_dash_is_thickened_by_its_longer_side():
    dash = np.full((200, 600), 255, np.uint8)
    cv2.line(dash, (100, 90), (500, 110), 0, 5)
    assert to_kmnist(Image.fromarray(dash)).max() > 230


@pytest.mark.parametrize("turned", [False, True])
def test_dark_strip_at_an_edge_is_not_the_character(turned):
    picture = np.full((400, 400), 255, np.uint8)
    cv2.rectangle(picture, (0, 60), (70, 340), 0, -1)
    points = np.array([[150, 60], [170, 340], [330, 330]])
    cv2.polylines(picture, [points], False, 0, 14)
    _, box = find_character(Image.fromarray(picture.T if turned else picture))
    assert abs(box[int(turned)] - 143) < 6


def test_blank_picture_of_28_pixels_is_refused():
    with pytest.raises(ValueError, match="nothing stands out"):
        find_character(Image.new("L", (28, 28), 90))
    image, _ = find_character(Image.new("L", (28, 28), 90), keep_28x28=True)
    assert (image == 90).all()


def test_paper_inside_an_outline_is_not_the_character():
    picture = np.full((80, 80, 3), 240, np.uint8)
    cv2.polylines(picture, [np.array([[40, 15], [65, 60], [15, 60]])], True, (20, 20, 20), 3)
    image, (left, _, right, _) = find_character(Image.fromarray(picture))
    assert image[17:20, 13:15].max() < 100 and right - left > 50


def test_filled_square_is_found():
    """A symbol of one's own may leave nothing of its box empty."""
    picture = np.full((200, 200, 3), 240, np.uint8)
    picture[60:140, 60:140] = 20
    image, box = find_character(Image.fromarray(picture))
    assert np.abs(np.subtract(box, (60, 60, 140, 140))).max() <= 2
    assert image.min() > 200


def test_far_stroke_in_a_crop_is_kept():
    """The two strokes of an old "ha" are as far from each other as they are long."""
    crop = np.full((280, 280, 3), 255, np.uint8)
    cv2.line(crop, (50, 40), (20, 240), (0, 0, 0), 14)
    cv2.line(crop, (235, 20), (265, 235), (0, 0, 0), 30)
    image = to_kmnist(Image.fromarray(crop))
    assert (image[:, :8] > 200).any() and (image[:, -8:] > 200).any()


def test_far_stroke_in_a_crop_is_kept_even_if_it_is_wide():
    crop = np.full((280, 280, 3), 255, np.uint8)
    cv2.line(crop, (45, 80), (28, 220), (0, 0, 0), 50)
    cv2.line(crop, (215, 20), (250, 230), (0, 0, 0), 34)
    _, (left, top, right, bottom) = find_character(Image.fromarray(crop))
    assert left < 10 and top < 10 and right > 260 and bottom > 240


@pytest.mark.parametrize(("gap", "width"), [(76, 10), (76, 18), (45, 24)])
def test_two_strokes_far_apart_are_one_character(gap, width):
    """An old "ha" may be written with them, one of them wider than the other."""
    paper = np.full((300, 300, 3), 235, np.uint8)
    cv2.line(paper, (85, 125), (70, 170), (40,) * 3, min(width, 14))
    cv2.line(paper, (85 + gap, 122), (105 + gap, 168), (40,) * 3, width)
    _, (left, _, right, _) = find_character(Image.fromarray(paper))
    assert left < 70 and right > 105 + gap


def test_stroke_that_a_flash_has_faded_is_kept():
    flash = 110 * np.exp(-(rows**2 + (columns - 0.25) ** 2) / 0.05)
    faded = written("tsu", color=40, paper=130) + flash[..., None]
    image, _ = find_character(Image.fromarray(faded.clip(0, 255).astype(np.uint8)))
    expected = to_kmnist(Image.fromarray(written("tsu")))
    assert np.abs(image - np.float32(expected)).mean() < 15


def test_fine_pen_on_a_colored_note_is_found():
    """The note's outline is of another color than the ink, longer, and as strong."""
    picture = np.full((300, 300, 3), 205, np.uint8)
    picture[60:240, 50:230] = 250, 225, 90
    draw_character(picture, "tsu", x=120, y=130, size=50, color=(40, 40, 46), width=2)
    _, box = find_character(Image.fromarray(picture))
    assert np.abs(np.subtract(box, (124, 141, 167, 173))).max() <= 3


@pytest.mark.parametrize("light", ["shadow in a corner", "shadow at a side", "edge of the table"])
def test_what_comes_in_from_the_edges_is_not_the_character(light, look_at):
    picture = cv2.copyMakeBorder(character(), *[100] * 4, cv2.BORDER_CONSTANT, value=255)
    _, expected = look_at({"clean.png": png(picture)})
    rows, columns = np.mgrid[0:1:500j, 0:1:500j]
    dark = {
        "shadow in a corner": rows + columns < 0.4,
        "shadow at a side": columns < 0.1,
        "edge of the table": rows - 0.1 * columns > 0.85,
    }[light]
    _, image = look_at({"photograph.jpg": png(np.where(dark, picture // 2, picture))})
    assert np.abs(image.astype(int) - expected).mean() < 20


def test_photograph_is_turned_as_the_camera_was(look_at):
    lying, exif, jpeg = Image.fromarray(np.rot90(character())), Image.Exif(), BytesIO()
    # orientation 6: turn it a quarter to the right
    exif[0x112] = 6
    lying.save(jpeg, "jpeg", exif=exif)
    _, turned = look_at({"photograph.jpg": jpeg.getvalue()})
    _, upright = look_at({"upright.png": png(character())})
    assert np.abs(turned.astype(int) - upright).mean() < 3


def written(name="ma", color=0, paper=255, x=90, y=90, size=120, canvas=None):
    """Draw a character on a canvas, (300, 300, 3) uint8, or on paper; return the picture."""
    picture = np.full((300, 300, 3), paper, np.uint8) if canvas is None else canvas
    draw_character(picture, name, x=x, y=y, size=size, color=color, width=max(4, size // 14))
    return picture


def lit(light, **character):
    """Return a picture of a character in a light from 0 to 1, (300, 300)."""
    return (written(**character) * light[..., None]).clip(0, 255).astype(np.uint8)


def marked(mark, **character):
    """Return a picture of a character on which the function `mark` has drawn."""
    picture = written(**character)
    mark(picture)
    return picture


def on_a_desk(side):
    picture = np.full((300, 300, 3), 90, np.uint8)
    start, end = 150 - side // 2, 150 + side // 2
    picture[start:end, start:end] = 250
    size = side // 2
    return written(x=150 - size // 2, y=150 - size // 2, size=size, canvas=picture)


def screenshot(picture):
    cv2.putText(picture, "9:41", (12, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1)
    cv2.rectangle(picture, (270, 8), (290, 16), (255,) * 3, -1)
    cv2.rectangle(picture, (100, 292), (200, 295), (255,) * 3, -1)


def paint_program(picture):
    cv2.rectangle(picture, (0, 0), (300, 40), (225,) * 3, -1)
    cv2.putText(picture, "File Edit", (8, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (30,) * 3, 1)
    for i in range(8):
        cv2.rectangle(picture, (20 + 18 * i, 22), (32 + 18 * i, 34), (255, 30 * i, 0), -1)


def holes(picture):
    for y in (80, 220):
        cv2.circle(picture, (20, y), 10, (60,) * 3, -1)


def seal(picture):
    cv2.rectangle(picture, (245, 245), (280, 280), (200, 40, 45), -1)
    written("ki", (235,) * 3, x=250, y=250, size=25, canvas=picture)


def caption(picture):
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, "Fig. 3, 1868", (60, 280), font, 0.5, (0,) * 3, 1, cv2.LINE_AA)


def neighbors(picture):
    written("re", y=-100, canvas=picture)
    written("tsu", y=275, canvas=picture)


rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
PHOTOGRAPHS = {
    "sheet of 72%": on_a_desk(216),
    "sheet of 55%": on_a_desk(164),
    "dark corners": lit(1 - 0.3 * (rows**2 + columns**2)),
    "flash": lit(0.55 + 0.4 * np.exp(-((rows - 0.3) ** 2 + (columns + 0.3) ** 2) / 0.1)),
    "soft shadow": lit(1 - 0.7 / (1 + np.exp(12 * columns))),
    "screenshot": marked(screenshot, color=(240,) * 3, paper=18),
    "paint program": marked(paint_program),
    "circled": marked(lambda p: cv2.circle(p, (150, 150), 120, (200, 40, 45), 4, cv2.LINE_AA)),
    "binder holes": marked(holes),
    "seal": marked(seal),
    "caption": marked(caption),
    "neighbors": marked(neighbors),
    "second character": marked(lambda p: written("tsu", x=245, y=170, size=40, canvas=p)),
    "red on cyan": written(color=(230, 95, 60), paper=(60, 150, 170)),
    "green on red": written(color=(40, 145, 60), paper=(205, 85, 75)),
    "ha": written("ha"),
    "o": written("o"),
}


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_character_is_found_in_a_photograph(kind):
    """Its image is most like that of its class, and its box is where it was drawn."""
    picture = PHOTOGRAPHS[kind]
    image, box = find_character(Image.fromarray(picture))
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert (to_kmnist(Image.fromarray(picture)) == image).all()
    clean = {name: to_kmnist(Image.fromarray(written(name))) for name in CLASSES}
    differences = {name: np.abs(image - np.float32(clean[name])).mean() for name in CLASSES}
    expected = kind if kind in CLASSES else "ma"
    assert min(differences, key=differences.get) == expected
    assert differences[expected] < 25
    if "sheet" not in kind:
        ink = np.any(written(expected) < 128, axis=2).astype(np.uint8)
        x, y, width, height = cv2.boundingRect(ink)
        assert np.abs(np.subtract(box, (x, y, x + width, y + height))).max() <= 3


def symbol(text):
    """Return a symbol, (300, 300) uint8, black on white, and the box of its ink."""
    picture = Image.new("L", (300, 300), 255)
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    options = {"font": ImageFont.truetype(str(font), 170), "anchor": "mm"}
    ImageDraw.Draw(picture).text((150, 150), text, fill=0, **options)
    pixels = np.array(picture)
    left, top, width, height = cv2.boundingRect(np.uint8(pixels < 128))
    return pixels, (left, top, left + width, top + height)


@pytest.mark.parametrize("text", "ij!?:;…%÷=≡½åőůñéÄ")
def test_symbol_of_several_parts_is_kept_whole(text):
    pixels, expected = symbol(text)
    _, box = find_character(Image.fromarray(pixels))
    assert np.abs(np.subtract(box, expected)).max() <= 6


@pytest.mark.parametrize("dot", [1, 1.3, 2])
@pytest.mark.parametrize("pen", [6, 13, 30])
def test_dot_inside_a_letter_is_kept(pen, dot):
    """As in letters of Arabic, which differ in it."""
    letter = np.full((300, 300, 3), 255, np.uint8)
    hook = [(84, 105), (135, 84), (216, 105), (144, 135), (108, 180), (126, 234), (180, 258)]
    cv2.polylines(letter, [np.array(hook)], False, (0, 0, 0), pen, cv2.LINE_AA)
    without = to_kmnist(Image.fromarray(letter))
    cv2.circle(letter, (176, 192), round(pen * dot / 2), (0, 0, 0), -1, cv2.LINE_AA)
    assert np.abs(to_kmnist(Image.fromarray(letter)) - np.float32(without)).max() > 150


def test_specks_and_holes_are_no_parts():
    """Dust is finer than the pen; a hole is beside the character."""
    _, expected = find_character(Image.fromarray(written()))
    rng = np.random.default_rng(0)
    dusty, holed = written(), written()
    for x, y in rng.integers(30, 270, (20, 2)).tolist():
        cv2.circle(dusty, (x, y), 1, (60, 60, 60), -1, cv2.LINE_AA)
    cv2.circle(holed, (60, 150), 7, (0, 0, 0), -1, cv2.LINE_AA)
    for picture in (dusty, holed):
        _, box = find_character(Image.fromarray(picture))
        assert np.abs(np.subtract(box, expected)).max() <= 4


@pytest.mark.parametrize(("color", "is_part"), [(60, True), (150, False)])
def test_pale_stroke_beside_the_character_is_no_part(color, is_part):
    """It shows through from the other side of the paper, or is badly wiped."""
    picture = written(color=(40,) * 3)
    _, (*_, right, _) = find_character(Image.fromarray(picture))
    cv2.line(picture, (right + 15, 110), (right + 25, 190), (color,) * 3, 16, cv2.LINE_AA)
    _, (*_, found, _) = find_character(Image.fromarray(picture))
    assert (found > right + 20) == is_part


@pytest.mark.parametrize("is_portrait", [True, False])
def test_neighbors_in_portraits_and_landscapes(is_portrait):
    """They fill the picture, but the character between them does not."""
    picture = np.full((420, 266) if is_portrait else (266, 420), 255, np.uint8)
    for offset, name in [(-205, "re"), (0, "ma"), (205, "tsu")]:
        x, y = (88, 165 + offset) if is_portrait else (165 + offset, 88)
        draw_character(picture, name, x=x, y=y, size=90, color=0, width=9)
    _, (left, top, right, bottom) = find_character(Image.fromarray(picture))
    assert max(right - left, bottom - top) < 110


@pytest.mark.parametrize("size", [60, 160])
def test_second_character_in_a_picture_hardly_higher_than_the_first(size):
    picture = np.full((500, 900), 255, np.uint8)
    draw_character(picture, "ma", x=80, y=80, size=340, color=0, width=24)
    left, top, width, height = cv2.boundingRect(255 - picture)
    draw_character(picture, "ki", x=500, y=200, size=size, color=0, width=size // 12)
    _, box = find_character(Image.fromarray(picture))
    assert np.abs(np.subtract(box, (left, top, left + width, top + height))).max() < 12
    draw_character(picture, "o", x=500, y=80, size=340, color=0, width=24)
    with pytest.raises(ValueError, match="more than one character"):
        find_character(Image.fromarray(picture))


UNCLEAR = {
    "nothing stands out": np.full((300, 300, 3), 200, np.uint8),
    "more than one character": marked(
        lambda p: written("ki", x=170, size=95, canvas=p), x=35, size=95
    ),
    "could be ink": marked(lambda p: written(color=(255,) * 3, x=170, canvas=p), x=10, paper=74),
}


@pytest.mark.parametrize("reason", UNCLEAR)
def test_photograph_without_a_single_character_is_refused(reason):
    with pytest.raises(ValueError, match=reason):
        to_kmnist(Image.fromarray(UNCLEAR[reason]))


def test_box_is_around_the_character_in_the_users_own_picture():
    """Also where a large picture is searched at a fraction of its size, and on the card."""
    picture = np.full((900, 1500), 255, np.uint8)
    draw_character(picture, "ma", x=300, y=200, size=400, color=0, width=40)
    left, top, width, height = cv2.boundingRect(255 - picture)
    image, box = find_character(Image.fromarray(picture).convert("RGB"))
    assert image.shape == (28, 28)
    assert np.abs(np.subtract(box, (left, top, left + width, top + height))).max() < 12

    probabilities, rgb = torch.tensor([0.9, 0.1]), Image.fromarray(picture).convert("RGB")
    card = own_pictures.annotate(image, probabilities, ["cat", "dog"], picture=rgb, box=box)
    rows, columns = np.nonzero((card == own_pictures.MARK).all(axis=2))
    scale, gap = 392 / 1500, 14 + (392 - 900 * 392 / 1500) / 2
    found = columns.min() - 14, rows.min() - gap, columns.max() - 14, rows.max() - gap
    assert np.abs(np.array(found) / scale - box).max() < 12


BAD_PICTURES = {
    "text.png": b"hello\n",
    "it's 'text'.png": b"hello\n",
    "empty.png": b"",
    "14000x14000.png": png(np.zeros((14_000, 14_000), np.uint8)),
    "IMG_0001.HEIC": b"\0\0\0\x18ftypheic",
    "iPhone.jpg": b"\0\0\0\x18ftypmif1",
    "PDF.png": b"%PDF-1.7\n",
    "web page.jpg": b"<!DOCTYPE html>\n<html>",
    "drawing.jpg": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    "archive.jpg": b"PK\x03\x04\x14",
    "cut.jpg": cv2.imencode(".jpg", character())[1].tobytes()[:300],
    "1x1.png": png(np.zeros((1, 1), np.uint8)),
    "narrow.png": png(np.zeros((2, 900), np.uint8)),
    "black.png": png(np.zeros((200, 200), np.uint8)),
    "grain.png": png(np.random.default_rng(0).normal(128, 8, (300, 300)).astype(np.uint8)),
}


def test_bad_pictures_are_named_and_the_others_shown(trained, tmp_path):
    folder, empty = tmp_path / "folder", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    for name, content in BAD_PICTURES.items():
        (folder / name).write_bytes(content)
    (folder / "good.png").write_bytes(png(character()))
    for name in ("notes.txt", "scan.pdf", "film.mpg", "weights.h5"):
        (folder / name).write_text("no picture, and not taken for one")

    (folder / "ki").mkdir()
    (folder / "ki" / "photo.JFIF").write_bytes(cv2.imencode(".jpg", character())[1].tobytes())
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "icon.png").write_bytes(b"")

    montage, missing = tmp_path / "montage.png", tmp_path / "missing.png"
    flags = ["-m", trained.model, "-o", montage, "--no-display", "-i", folder, empty, missing]
    run = run_script("predict.py", *flags)
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert len(lines) == len(BAD_PICTURES) + 3, run.stderr
    number = len(BAD_PICTURES) + 2
    assert lines[-1] == f"[ERROR] {number} of {number + 2} pictures have no prediction: see above"
    for path in [*(folder / name for name in BAD_PICTURES), empty, missing]:
        assert any(line.startswith(f"[ERROR] {path}: ") for line in lines), path
    for name, reason in {
        "text.png": "cannot identify image file",
        "it's 'text'.png": "cannot identify image file",
        "IMG_0001.HEIC": "cannot identify image file",
    }.items():
        assert f"{name}: {reason}: choose a JPEG or PNG file" in run.stderr, name
    assert f"{missing}: does not exist" in run.stderr
    assert "14000x14000.png: larger than 178 megapixels" in run.stderr
    assert run.stdout.count("predicted label: ") == 2
    for good in ("good.png", "ki/photo.JFIF"):
        assert f"[INFO] {folder / good}: predicted label: " in run.stdout
    assert cv2.imread(str(montage)).shape == (253, 2 * 413, 3)


def test_pattern(trained, tmp_path, call_main):
    """As on Windows, where no shell replaces it by the files."""
    for name in ("a.png", "b.png", "c.jpg"):
        (tmp_path / name).write_bytes(png(character()))
    flags = ["-m", trained.model, "-o", tmp_path / "out" / "o.png", "--no-display", "-i"]
    run = call_main("predict.py", *flags, tmp_path / "*.png")
    assert re.findall(r"(\w\.\w+): predicted", run.stdout) == ["a.png", "b.png"]
    run = call_main("predict.py", *flags, tmp_path / "*.gif")
    assert_one_line(run, 1, tmp_path / "*.gif", "does not exist")


def test_pattern_in_a_folder_with_brackets(tmp_path):
    folder = tmp_path / "scan [2024]" / "page 1"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "c.png"):
        (folder / name).write_bytes(b"")
    assert find_pictures([folder / "*.jpg"], tmp_path / "o.png") == [
        folder / "a.jpg",
        folder / "b.jpg",
    ]


@pytest.mark.parametrize("name", ["scan.tiff", "moving.gif"])
def test_first_of_several_pages_is_read(name, tmp_path):
    pages = [Image.fromarray(page) for page in (character(), character().T)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    picture = read_picture(tmp_path / name)
    assert np.abs(np.asarray(picture)[..., 0].astype(int) - character()).mean() < 1


def test_warnings_of_pillow_are_not_shown(tmp_path):
    """In a process of its own, since pytest records them."""
    (tmp_path / "odd.png").write_bytes(png(character()))
    code = (
        "import logging, sys, warnings; from modules import cli, pictures\n"
        "def warn(file):\n"
        "    warnings.warn('odd metadata'); logging.getLogger('PIL.x').warning('odd tag')\n"
        "    return file.copy()\n"
        "pictures.ImageOps.exif_transpose = warn\n"
        "cli.run(lambda: pictures.read_picture(sys.argv[1]))\n"
    )
    run = run_python("-c", code, tmp_path / "odd.png")
    assert (run.returncode, run.stderr) == (0, "")


def test_montage_in_the_folder_of_the_pictures(trained, tmp_path, call_main):
    """Run again, it is no picture of the folder; a file that is named is an error."""
    (tmp_path / "mine.png").write_bytes(png(character()))
    flags = ["-m", trained.model, "--no-display", "-i"]
    for _ in range(2):
        run = call_main("predict.py", *flags, ".")
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.count("predicted label") == 1
    os.link(tmp_path / "output" / "predictions.png", tmp_path / "output" / "o.png")
    assert call_main("predict.py", *flags, ".").stdout.count("predicted label") == 1
    run = call_main("predict.py", *flags, "mine.png", "-o", tmp_path / "mine.png")
    assert_one_line(run, 1, tmp_path / "mine.png", "choose another --output")
    assert (tmp_path / "mine.png").read_bytes() == png(character())


def test_folder_is_searched_in_order_and_not_in_a_circle(tmp_path):
    for name in ("c/1.png", "a/2.png", "a/1.png", "b/x/1.png", "other/9.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "root"
    root.mkdir()
    for name in "cab":
        (tmp_path / name).rename(root / name)
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "self").symlink_to(root / "b")
    (root / "link to a").symlink_to(root / "a")
    (root / "b" / "linked").symlink_to(tmp_path / "other")
    found = [str(path.relative_to(root)) for path in find_pictures([root], tmp_path / "o.png")]
    assert found == ["a/1.png", "a/2.png", "b/linked/9.png", "b/x/1.png", "c/1.png"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN])
def test_drive_that_drops_out_is_no_bad_picture(number, trained, tmp_path, monkeypatch, call_main):
    (tmp_path / "a.png").write_bytes(png(character()))

    def fail(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image, "open", fail)
    run = call_main("predict.py", "-m", trained.model, "-i", "a.png", "--no-display")
    assert_one_line(run, 1, f"[ERROR] a.png: {os.strerror(number)}: check the path")


def test_own_program_has_pictures_of_many_kinds():
    """A path, a file or an upload; an image of any mode, as a canvas gives it."""
    picture = character()
    _, expected = find_character(Image.fromarray(picture))
    assert find_character(read_picture(BytesIO(png(picture))))[1] == expected
    canvas = Image.fromarray(np.dstack([np.zeros((300, 300, 3), np.uint8), 255 - picture]))
    # one color is transparent: it is the paper, although it is as dark as the ink
    keyed = Image.fromarray(np.dstack(3 * [np.uint8(picture < 128)]))
    keyed.info["transparency"] = (0, 0, 0)
    assert np.abs(np.subtract(find_character(keyed)[1], expected)).max() <= 3
    gray = Image.fromarray(picture)
    for mode in ("RGBA", "LA", "P"):
        assert find_character(canvas.convert(mode) if mode != "RGBA" else canvas)[1] == expected
    for mode in ("1", "L", "P", "CMYK", "I", "F"):
        assert np.abs(np.subtract(find_character(gray.convert(mode))[1], expected)).max() <= 1
    # a mask of 0 and 1, and fractions, as in a float TIFF
    for scaled in (
        gray.convert("I").point(lambda v: v / 255),
        Image.fromarray(picture / np.float32(255)),
    ):
        assert np.abs(np.subtract(find_character(scaled)[1], expected)).max() <= 3
    small = canvas.resize((28, 28))
    assert find_character(small)[0].max() > 150


def test_large_scan_needs_little_memory(tmp_path):
    """Of 100 megapixels in gray: a child process that may take 500 MB more than without it."""
    cv2.imwrite(str(tmp_path / "large.png"), cv2.resize(character(), (10_000, 10_000)))
    code = (
        "import resource, sys; from modules.pictures import read_picture\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "size = max(read_picture(sys.argv[1]).size)\n"
        "print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    if sys.platform != "linux":
        pytest.skip("only Linux counts memory so")
    size, kilobytes = map(int, run_python("-c", code, tmp_path / "large.png").stdout.split())
    assert size >= 2048 and kilobytes < 500_000
