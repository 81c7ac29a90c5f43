"""Measure how well photographs are read: `python tests/benchmarks/pictures.py MODEL --data DIR`.

Draws test images (KMNIST's in DIR, or synthetic Hiragana where it is not) as ink on paper, adds
what photographs of paper show, and prints a Markdown table of what the model makes of them. All
rules and numbers of modules/preprocess.py and shapes.py were chosen with --train, on training
images.
"""

import argparse
import sys
import time
from collections import Counter
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules import preprocess, shapes
from modules.checkpoint import load_network
from modules.datasets import load_dataset, to_input
from modules.predictions import predict
from modules.preprocess import find_character

import cv2
import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

WHITE, DARK, RED = (250, 250, 248), (40, 40, 46), (200, 40, 45)
# pixels: a picture's side, and the side of its character
SIDE, CHARACTER = 400, 200
# name: (function, strengths)
KINDS = {}


def kind(name, strengths=("",)):
    """Register a kind of photograph: a function from image, random generator and strength."""

    def register(function):
        KINDS[name] = function, strengths
        return function

    return register


# pictures are (height, width, 3) float32 from 0 to 255, RGB; ink is (height, width) from 0 to 1


def place(image, size=CHARACTER, shape=(SIDE, SIDE), center=None):
    """Return an image of `size` pixels as ink, in the center of `shape` or elsewhere (x, y)."""
    x, y = (shape[1] / 2, shape[0] / 2) if center is None else center
    scale = size / 28
    matrix = np.float32([[scale, 0, x - 13.5 * scale], [0, scale, y - 13.5 * scale]])
    values = np.float32(image) / 255
    return cv2.warpAffine(values, matrix, shape[::-1], flags=cv2.INTER_CUBIC).clip(0, 1)


def anywhere(image, rng, shape=(SIDE, SIDE), low=0.3, high=0.75):
    """Return an image as ink of some size, somewhere."""
    size = rng.uniform(low, high) * min(shape)
    x, y = (rng.uniform(0.5 * size + 8, side - 0.5 * size - 8) for side in shape[::-1])
    return place(image, size, shape, (x, y))


def draw(paper, ink, color=DARK):
    """Return the paper with ink on it; paper: a color or a picture."""
    return np.float32(paper) + (np.float32(color) - np.float32(paper)) * ink[..., None]


def texture(rng, shape, size, amount):
    """Return smooth random values with a standard deviation, (height, width, 1)."""
    small = [max(4, round(side / size)) for side in shape]
    values = cv2.resize(rng.normal(0, 1, small), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.float32(amount * values / values.std())[..., None]


def grid(shape):
    """Return rows and columns from -1 to 1, each (height, width, 1)."""
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j][..., None]
    return rows, columns


def disc(shape, x, y, radius, width=-1):
    mask = np.zeros(shape, np.uint8)
    cv2.circle(mask, (int(x), int(y)), int(radius), 255, width, cv2.LINE_AA)
    return mask / np.float32(255)


def text(shape, words, x, y, scale, thickness=1):
    mask = np.zeros(shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(mask, words, (int(x), int(y)), font, scale, 255, thickness, cv2.LINE_AA)
    return mask / np.float32(255)


def camera(picture, rng, noise=4, quality=85, blur=0.7):
    """Return the picture as a camera takes it: a little blurred, with noise, a JPEG."""
    picture = cv2.GaussianBlur(np.float32(picture), (0, 0), blur)
    picture = picture + rng.normal(0, noise, picture.shape)
    file = BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def pen(image, rng, other=None):
    """Return white paper with ink as most pictures here have it: in the center, a bit random."""
    return draw(WHITE, place(image, CHARACTER * rng.uniform(0.8, 1.2)))


@kind("plain")
def plain(image, rng, strength, other):
    return draw(WHITE, anywhere(image, rng))


def ghosts(paper, rng, other, color, strength, blur):
    """Return the paper with other writing on it, as faint as `strength`, which is not meant."""
    for _ in range(6):
        ink = anywhere(other, rng, paper.shape[:2], 0.35, 0.5)
        paper = draw(paper, strength * cv2.GaussianBlur(ink, (0, 0), blur), color)
    return paper


@kind("blackboard, wiped writing of %", (0, 20, 35))
def wiped(image, rng, strength, other):
    board = np.float32((40, 68, 56)) + texture(rng, (SIDE, SIDE), 3, 3)
    board = board + np.abs(texture(rng, (SIDE, SIDE), 40, 8))
    board = ghosts(board, rng, other, (225, 228, 222), strength / 100, blur=3)
    return camera(draw(board, place(image, 230), (230, 232, 228)), rng)


@kind("other side of the paper, %", (22, 35, 50))
def bleed_through(image, rng, strength, other):
    paper = np.float32((214, 190, 150)) + texture(rng, (SIDE, SIDE), 60, 5)
    paper = ghosts(paper, rng, np.fliplr(other), (45, 38, 30), strength / 100, blur=2)
    return camera(draw(paper, place(image, 230), (45, 38, 30)), rng)


@kind("webcam")
def webcam(image, rng, strength, other):
    """A sheet of two thirds of the height, held by two thumbs in a room full of things."""
    room = np.zeros((480, 640, 3), np.float32) + rng.uniform(60, 170, 3).astype(np.float32)
    for _ in range(16):
        x, y, width, height = map(int, rng.uniform((-50, -50, 40, 40), (600, 450, 260, 260)))
        color = rng.uniform(20, 220, 3).tolist()
        cv2.rectangle(room, (x, y), (x + width, y + height), color, -1)
    room = cv2.GaussianBlur(room, (0, 0), 2.5)
    left, top = (int(v) for v in rng.uniform((100, 60), (220, 100)))
    room[top : top + 320, left : left + 320] = draw((236, 233, 226), place(image, 190, (320, 320)))
    for x in (left, left + 320):
        cv2.ellipse(room, (x, top + 250), (42, 16), 20, 0, 360, (200, 150, 122), -1, cv2.LINE_AA)
    return camera(room, rng, noise=5)


@kind("dry brush")
def dry_brush(image, rng, strength, other):
    streaks = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)), (0, 0), 1.1, sigmaY=16)
    wet = (3 * streaks / streaks.std() + 0.5).clip(0, 1)
    dry = (texture(rng, (SIDE, SIDE), 80, 1)[..., 0] + 0.8).clip(0, 1)
    return camera(draw((236, 233, 226), place(image, 230) * (1 - dry + dry * wet)), rng)


@kind("wooden desk")
def desk(image, rng, strength, other):
    shape = 500, 500
    rows, _ = grid(shape)
    waves = np.sin(60 * rows + 4 * texture(rng, shape, 120, 1)) * 14
    picture = np.float32((130, 90, 55)) + waves + texture(rng, shape, 3, 4)
    sheet = np.float32(((110, 90), (410, 110), (400, 420), (95, 405))) + rng.uniform(-30, 30, 2)
    mask = cv2.fillPoly(np.zeros(shape, np.uint8), [sheet.round().astype(int)], 1)[..., None]
    paper = draw(WHITE, place(image, rng.uniform(130, 220), shape, sheet.mean(axis=0)))
    return camera(np.where(mask, paper, picture), rng)


@kind("sheet of the side, %", (72, 55))
def sheet(image, rng, strength, other):
    picture = np.full((SIDE, SIDE, 3), 90, np.float32)
    side = round(SIDE * strength / 100)
    start = (SIDE - side) // 2
    character = place(image, rng.uniform(0.45, 0.75) * side, (side, side))
    picture[start : start + side, start : start + side] = draw(WHITE, character)
    return camera(picture, rng)


@kind("old paper")
def old_paper(image, rng, strength, other):
    shape = SIDE, SIDE
    paper = np.float32((205, 180, 135)) + texture(rng, shape, 4, 5) + texture(rng, shape, 90, 10)
    for _ in range(6):
        x, y = rng.uniform(0, SIDE, 2)
        stain = cv2.GaussianBlur(disc(shape, x, y, rng.uniform(10, 50)), (0, 0), 5)
        paper = draw(paper, 0.25 * stain, (120, 80, 40))
    for _ in range(4):
        x, y = rng.uniform(0, SIDE, 2)
        paper = draw(paper, disc(shape, x, y, rng.uniform(2, 5)), (60, 50, 40))
    return camera(draw(paper, anywhere(image, rng, low=0.4), (50, 42, 38)), rng)


@kind("flash, gray levels", (60, 110))
def flash(image, rng, strength, other):
    rows, columns = grid((SIDE, SIDE))
    x, y = rng.uniform(-0.5, 0.5, 2)
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 0.22**2))
    return camera(draw((140, 138, 135), anywhere(image, rng)) + strength * spot, rng)


@kind("soft shadow, %", (70,))
def shadow(image, rng, strength, other):
    rows, columns = grid((SIDE, SIDE))
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
    across = rows * np.sin(angle) + columns * np.cos(angle) + offset
    return camera(
        draw(WHITE, anywhere(image, rng)) * (1 - strength / 100 / (1 + np.exp(across * 12))), rng
    )


@kind("dark screenshot, height", (960,))
def screenshot(image, rng, strength, other):
    shape = strength, 450
    picture = draw((18, 18, 18), place(image, rng.uniform(180, 300), shape), (240, 240, 240))
    picture = draw(picture, text(shape, "9:41", 22, 32, 0.6, 2), WHITE)
    cv2.rectangle(picture, (390, 18), (418, 32), WHITE, -1)
    cv2.rectangle(picture, (150, strength - 14), (300, strength - 9), WHITE, -1)
    return picture


@kind("circled")
def circled(image, rng, strength, other):
    ring = disc((SIDE, SIDE), SIDE / 2, SIDE / 2, rng.uniform(150, 180), int(rng.integers(3, 8)))
    return camera(draw(draw(WHITE, place(image, 180)), ring, RED), rng)


@kind("binder holes")
def binder_holes(image, rng, strength, other):
    picture = pen(image, rng)
    for y in (110, 310):
        picture = draw(picture, disc((SIDE, SIDE), 25, y, 14), (60, 60, 60))
    return camera(picture, rng)


@kind("seal of 800 pixels", (110,))
def seal(image, rng, strength, other):
    shape = 800, 800
    picture = draw((235, 230, 215), place(image, rng.uniform(350, 480), shape))
    mark = np.zeros(shape, np.float32)
    left, top = (rng.uniform(0.75, 0.84, 2) * 800).astype(int)
    mark[top : top + strength, left : left + strength] = 1
    inner = place(other, 0.75 * strength, shape, (left + strength / 2, top + strength / 2))
    return camera(draw(picture, (mark - inner).clip(0, 1), RED), rng)


@kind("caption")
def caption(image, rng, strength, other):
    shape = 460, SIDE
    words = text(shape, "Fig. 3: hiragana, 1868", rng.uniform(30, 90), 430, 0.7)
    return camera(draw(WHITE, np.maximum(place(image, shape=shape), words)), rng)


def neighbours(image, rng, strength, other):
    """Other characters above and below, of which `strength` of 900 pixels show."""
    shape = 900, 900
    size, ink = 360, place(image, 400, shape)
    for y in (strength - size / 2, 900 - strength + size / 2):
        center = 450 + rng.uniform(-60, 60), y
        ink = np.maximum(ink, place(other, size, shape, center))
    return camera(draw(WHITE, ink), rng)


kind("above and below, of 900 pixels", (150,))(neighbours)


@kind("left and right, of 900 pixels", (150,))
def beside(image, rng, strength, other):
    picture = neighbours(image.T, rng, strength, other.T)
    return picture.transpose(1, 0, 2)


@kind("second character beside 340 pixels", (100, 160))
def second(image, rng, strength, other):
    shape = 600, 800
    ink = place(image, 340, shape, (290, 300))
    x = 290 + 170 + strength / 2 + rng.uniform(40, 110)
    other = place(other, strength, shape, (x, rng.uniform(200, 400)))
    return camera(draw(WHITE, np.maximum(ink, other)), rng)


@kind("second character in 900x500", (100, 340))
def second_in_tight(image, rng, strength, other):
    """The picture is hardly higher than the first character, which has 340 pixels."""
    shape = 500, 900
    ink = place(image, 340, shape, (rng.uniform(190, 230), 250))
    x = 400 + strength / 2 + rng.uniform(40, 110)
    ink = np.maximum(ink, place(other, strength, shape, (x, 250 + rng.uniform(-60, 60))))
    return camera(draw(WHITE, ink), rng)


COLORS = {
    "red on cyan": ((60, 150, 170), (230, 95, 60)),
    "green on red": ((205, 85, 75), (40, 145, 60)),
}


@kind("ink as light as its paper", ("red on cyan", "green on red"))
def colored(image, rng, strength, other):
    paper, ink = COLORS[strength]
    return camera(draw(paper, anywhere(image, rng), ink), rng)


@kind("tight crop", ("dark", "light"))
def tight(image, rng, strength, other):
    ink = place(image, 280, (280, 280))
    return draw(WHITE, ink, 0) if strength == "dark" else draw(0, ink, WHITE)


@kind("character of 3000x4000, pixels", (2200, 500))
def photograph(image, rng, strength, other):
    shape = 600, 800
    size = strength / 5
    x, y = rng.uniform(size / 2 + 10, 800 - size / 2 - 10), rng.uniform(size / 2, 600 - size / 2)
    picture = draw((190, 185, 180), place(image, size, shape, (x, y)))
    picture = cv2.resize(picture, (4000, 3000), interpolation=cv2.INTER_CUBIC)
    picture += np.float32(rng.normal(0, 6, (3000, 1, 1)))
    return picture


@kind("tall or wide", ("1x4", "5x1"))
def narrow(image, rng, strength, other):
    shape = (1200, 300) if strength == "1x4" else (200, 1000)
    return camera(draw(WHITE, anywhere(image, rng, shape, 0.6, 0.8)), rng)


@kind("64x64")
def small_photograph(image, rng, strength, other):
    return camera(draw(WHITE, anywhere(image, rng, (64, 64), 0.6, 0.75)), rng, blur=0.4)


@kind("outlined")
def outlined(image, rng, strength, other):
    ink = np.uint8(place(image, 280) > 0.5)
    border = cv2.dilate(ink, np.ones((4, 4))) - cv2.erode(ink, np.ones((3, 3)))
    return camera(draw(WHITE, np.float32(border)), rng)


def make(name, strength, image, other, seed):
    """Return a photograph as a Pillow image; a seed always gives the same one."""
    picture = KINDS[name][0](image, np.random.default_rng(seed), strength, other)
    return Image.fromarray(np.asarray(picture).clip(0, 255).astype(np.uint8))


def measure(name, strength, images, labels, model, args):
    """Return right, refused, wrong, wrong above 80%: percentages; and the median milliseconds."""
    results, times, rows = Counter(), [], []
    for i, label in enumerate(labels.tolist()):
        picture = make(name, strength, images[i], images[i - 1], [args.seed, i])
        start = time.perf_counter()
        try:
            image, result = find_character(picture)[0], None
        except ValueError:
            image, result = np.zeros((28, 28), np.uint8), "refused"
        times.append(1000 * (time.perf_counter() - start))
        probabilities = predict(model, to_input(image[None]))[0]
        if not result:
            result = "right" if probabilities.argmax() == label else "wrong"
            results["above"] += int(result == "wrong" and probabilities.max() > 0.8)
        results[result] += 1
        if result != "right":
            rows.append((picture, image, images[i]))
    if args.sheets and rows:
        save_sheet(args.sheets / f"{name} {strength}.png".replace("/", "-"), rows)
    keys = "right", "refused", "wrong", "above"
    return [100 * results[key] / len(labels) for key in keys], np.median(times)


# symbols of several parts, as fonts of matplotlib's draw them; and as strokes of a pen, lists of
# points in percent, of which one point is a dot
SYMBOLS, FONTS = "ij!?:;…%÷=≡½åőůñéÄ", Path(matplotlib.get_data_path(), "fonts", "ttf")
NAMES = ["DejaVuSans", "DejaVuSerif-Bold", "STIXGeneral", "cmr10"]
HOOK = [(28, 35), (45, 28), (72, 35), (48, 45), (36, 60), (42, 78), (60, 86), (74, 83)]
HAND = {
    "i": [[(50, 38), (50, 82)], [(50, 22)]],
    "jim": [HOOK, [(54, 64)]],
    "kha": [HOOK, [(49, 16)]],
    "theh": [[(20, 60), (30, 70), (70, 70), (80, 58)], [(42, 45)], [(58, 45)], [(50, 33)]],
    "colon": [[(50, 35)], [(50, 70)]],
    "ellipsis": [[(25, 70)], [(50, 70)], [(75, 70)]],
    "!": [[(50, 20), (50, 65)], [(50, 80)]],
    "divide": [[(25, 50), (75, 50)], [(50, 30)], [(50, 70)]],
    "a with dots": [[(30, 75), (50, 35), (70, 75)], [(40, 20)], [(60, 20)]],
    "=": [[(25, 40), (75, 40)], [(25, 60), (75, 60)]],
}


def write(symbol, font, size):
    picture = Image.new("RGB", (300, 300), "white")
    options = {"font": ImageFont.truetype(str(FONTS / f"{font}.ttf"), size), "anchor": "mm"}
    ImageDraw.Draw(picture).text((150, 150), symbol, fill="black", **options)
    return np.array(picture)


def draw_strokes(strokes, width, dot, rng):
    """Draw strokes with a pen of that width, in pixels, and dots so many times as wide."""
    picture, shift = np.full((300, 300, 3), 255, np.uint8), rng.normal(0, 4, 2)
    for stroke in strokes:
        points = 3 * np.array(stroke) + shift + rng.normal(0, 1.5, (len(stroke), 2))
        points = (16 * points).round().astype(np.int32)
        cv2.polylines(picture, [points], False, (0, 0, 0), width, cv2.LINE_AA, shift=4)
        if len(points) == 1:
            radius = round(8 * dot * width)
            cv2.circle(picture, points[0].tolist(), radius, (0, 0, 0), -1, cv2.LINE_AA, shift=4)
    return picture


def measure_symbols():
    """Print in how many pictures of symbols all parts are kept: the box of the ink is found."""
    rng = np.random.default_rng(0)
    series = {
        "fonts": [
            write(symbol, font, size)
            for font in NAMES
            for symbol in SYMBOLS
            for size in (120, 180, 230)
        ],
        "strokes": [
            draw_strokes(strokes, width, dot, rng)
            for strokes in HAND.values()
            for width in (6, 13, 20, 30)
            for dot in (1, 1.3, 2)
        ],
    }
    print("| symbols | clean | photographed |")
    print("| --- | --- | --- |")
    for name, pictures in series.items():
        kept = []
        for photographed in (False, True):
            found = 0
            for picture in pictures:
                left, top, width, height = cv2.boundingRect(np.uint8(picture.min(axis=2) < 128))
                expected = left, top, left + width, top + height
                seen = camera(0.8 * np.float32(picture) + 25, rng, 5) if photographed else picture
                try:
                    box = find_character(Image.fromarray(np.uint8(np.clip(seen, 0, 255))))[1]
                    error = np.abs(np.subtract(box, expected)).max()
                    found += error <= 1.5 + 0.05 * max(width, height)
                except ValueError:
                    pass
            kept.append(f"{found} of {len(pictures)}")
        print(f"| {name} | {' | '.join(kept)} |")
    print()


def save_sheet(path, rows):
    """Save the pictures that are misread or refused, each beside what was read and the original."""
    cells = []
    for picture, *small in rows[:24]:
        picture.thumbnail((168, 168))
        cell = Image.new("L", (300, 170), 128)
        cell.paste(picture, (0, 0))
        for j, image in enumerate(small):
            cell.paste(Image.fromarray(image).resize((84, 84)), (172, 85 * j))
        cells.append(np.asarray(cell))
    cells += [np.full_like(cells[0], 128)] * (-len(cells) % 4)
    rows = [np.hstack(cells[i : i + 4]) for i in range(0, len(cells), 4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--num", type=int, default=60, help="pictures per series")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", help="parts of the names of kinds")
    parser.add_argument("--train", action="store_true", help="training instead of test images")
    parser.add_argument("--set", nargs="+", default=[], help="such as NEAR=0: see shapes.py")
    parser.add_argument("--sheets", type=Path, help="folder for sheets of what is misread")
    args = parser.parse_args()

    torch.set_num_threads(1)
    for text in args.set:
        name, value = text.split("=")
        setattr(shapes if hasattr(shapes, name) else preprocess, name, float(value))
    measure_symbols()
    model, checkpoint = load_network(args.model)
    is_kmnist = (args.data / "KMNIST" / "raw").is_dir()
    data = load_dataset("kmnist" if is_kmnist else "synthetic", args.data)
    data, title = (data.train if args.train else data.test), data.title
    chosen = np.random.default_rng(args.seed).permutation(len(data))[: args.num]
    inputs, labels = data[chosen]
    images = (255 * inputs[:, 0]).round().byte().numpy()

    share = (predict(model, inputs).argmax(dim=1) == labels).double().mean()
    split = "training" if args.train else "test"
    print(f"{args.num} {split} images of {title}, seed {args.seed}: {share:.1%} are read\n")
    print("| kind | strength | right | refused | wrong | wrong above 80% | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    means = []
    for name, (_, strengths) in KINDS.items():
        if args.kinds and not any(part in name for part in args.kinds):
            continue
        for strength in strengths:
            shares, milliseconds = measure(name, strength, images, labels, model, args)
            numbers = " | ".join(f"{number:.0f}%" for number in shares)
            print(f"| {name} | {strength} | {numbers} | {milliseconds:.0f} |", flush=True)
            means.append(shares)
    numbers = " | ".join(f"{number:.1f}%" for number in np.mean(means, axis=0))
    print(f"| mean | | {numbers} | |")


if __name__ == "__main__":
    main()
