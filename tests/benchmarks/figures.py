"""Make the README's pictures: `python tests/benchmarks/figures.py SYNTHETIC KMNIST FOLDER`.

SYNTHETIC and KMNIST are checkpoints: of train.py --dataset synthetic, and of train.py on KMNIST,
whose plot is drawn. All characters are synthetic Hiragana.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules import own_pictures, windows
from modules.augment import warp
from modules.checkpoint import load_network
from modules.datasets import load_dataset, load_test_images
from modules.plots import draw_plot
from modules.predictions import predict
from modules.strokes import STROKES, draw_character

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image
from torchvision.utils import make_grid

ROOT, CLASSES = Path(__file__).resolve().parents[2], list(STROKES)
DARK, LIGHT, MARK = "#282c30", "#f0f0f0", "#ffb000"
# the image that is followed through the network, and the kernel and the position in conv1
IMAGE, KERNEL, ROW, COLUMN = 3636, 6, 14, 10
# how a hand moved the mouse to draw "ki": four strokes of points, in pixels of the canvas
HAND = [
    [(120, 150), (170, 147), (240, 136), (310, 120), (372, 106)],
    [(110, 238), (180, 231), (260, 214), (340, 197), (404, 186)],
    [(222, 62), (240, 110), (262, 170), (290, 236), (332, 302)],
    [(172, 316), (164, 334), (161, 352), (166, 374), (180, 393), (200, 409), (224, 420)]
    + [(254, 427), (286, 429), (316, 427), (344, 419)],
]


def new_figure(width, height):
    """Return a figure in which text is legible at half its size, on any background."""
    return Figure(figsize=(width, height), facecolor=DARK)


def add_title(axes, text):
    axes.set_anchor("N")
    axes.set_title(text, color=LIGHT, fontsize=15, linespacing=1.3)
    axes.axis("off")


def mark(axes, x, y, size):
    axes.add_patch(
        Rectangle(
            (x - 0.5, y - 0.5), size, size, fill=False, color=MARK, linewidth=3, clip_on=False
        )
    )


def show_numbers(axes, values, title, limit=None):
    """Show an array as a table of numbers; with `limit`, red is positive and blue negative."""
    colors = {"cmap": "gray", "vmin": 0, "vmax": 1}
    if limit:
        colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    axes.imshow(values, **colors)
    for (row, column), value in np.ndenumerate(values):
        is_dark = value < 0.5 if not limit else abs(value) > 0.6 * limit
        color = "white" if is_dark else "black"
        # adding 0 turns -0.0 into 0.0
        text = f"{round(float(value), 2) + 0:.2f}"
        axes.text(column, row, text, color=color, fontsize=14, ha="center", va="center")
    add_title(axes, title)


def show_tiles(axes, maps, columns, title, **options):
    """Show maps, (N, H, W), as a grid of tiles; return the side of a tile with its margin."""
    grid = make_grid(maps[:, None], nrow=columns, padding=1, pad_value=torch.nan)[0]
    axes.imshow(grid, interpolation="nearest", **options)
    add_title(axes, title)
    return maps.shape[-1] + 1


def add_arrow(figure, start, end):
    """Point from one panel to the next; both ends are fractions of the figure."""
    style = {"arrowstyle": "-|>", "mutation_scale": 22, "linewidth": 2.5, "color": LIGHT}
    figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, **style))


def draw_convolution(path, model, image):
    """Follow one pixel of a feature map through conv1, relu1 and maxpool1, with its numbers."""
    # a part of the feature map: two blocks of max-pooling high and wide
    rows, columns = slice(ROW - 2, ROW + 2), slice(COLUMN, COLUMN + 4)
    kernel, bias = model.conv1.weight.detach()[KERNEL, 0], model.conv1.bias[KERNEL].item()
    with torch.inference_mode():
        feature_map = model.conv1(image[None])[0, KERNEL]
        pooled = model.maxpool1(model.relu1(feature_map[None]))[0]
    part, left = feature_map[rows, columns], pooled[ROW // 2 - 1 : ROW // 2 + 1]
    left = left[:, COLUMN // 2 : COLUMN // 2 + 2]
    pixels = image[0, ROW : ROW + 5, COLUMN : COLUMN + 5]
    total = (pixels * kernel).sum().item()

    figure = new_figure(11, 7.9)
    axes = figure.subplots(2, 3).flat
    figure.subplots_adjust(left=0.01, right=0.99, top=0.91, bottom=0.01, wspace=0.06, hspace=0.24)
    axes[0].imshow(image[0], cmap="gray", interpolation="nearest")
    add_title(axes[0], "1: an image of 28×28 pixels,\nand a square of 5×5")
    mark(axes[0], COLUMN, ROW, 5)
    show_numbers(axes[1], pixels, "2: the pixels\nin the square")
    show_numbers(axes[2], kernel, "3: the 25 weights\nof a kernel", limit=kernel.abs().max())
    limit = feature_map.abs().max()
    axes[3].imshow(feature_map, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    add_title(axes[3], "4: the feature map, 24×24,\nand a part of 4×4")
    mark(axes[3], COLUMN, ROW - 2, 4)
    title = f"5: the numbers of this part\n({total:.3f} + bias {bias:.3f} = {total + bias:.3f})"
    show_numbers(axes[4], part, title, limit)
    mark(axes[4], 0, 2, 1)
    show_numbers(axes[5], left, "6: what ReLU and\nmax-pooling leave of it", limit)
    mark(axes[5], 0, 1, 1)
    figure.savefig(path, facecolor=DARK)


def draw_network(path, model, image, label):
    """Show an image on its way through the network."""
    kernels = model.conv1.weight.detach()[:, 0]
    with torch.inference_mode():
        maps1 = model.relu1(model.conv1(image[None]))
        pooled1 = model.maxpool1(maps1)
        maps2 = model.relu2(model.conv2(pooled1))
        pooled2 = model.maxpool2(maps2)
        probabilities = model(image[None])[0].exp()

    figure = new_figure(11, 8.4)
    axes = figure.subplots(2, 3).flat
    figure.subplots_adjust(left=0.01, right=0.99, top=0.91, bottom=0.03, wspace=0.22, hspace=0.3)
    axes[0].imshow(image[0], cmap="gray", interpolation="nearest")
    add_title(axes[0], f"1: an image of 28×28 pixels,\nits class: {CLASSES[label]}")
    bright = {"cmap": "gray", "vmax": maps1.quantile(0.995)}
    title = "2: after conv1 and relu1,\n20 feature maps of 24×24"
    side = show_tiles(axes[1], maps1[0], 5, title, **bright)
    mark(axes[1], KERNEL % 5 * side, KERNEL // 5 * side, side + 1)
    title = "3: after maxpool1,\nthe same 20 maps, 12×12"
    side = show_tiles(axes[2], pooled1[0], 5, title, **bright)
    mark(axes[2], KERNEL % 5 * side, KERNEL // 5 * side, side + 1)
    limit = kernels.abs().max()
    title = "the 20 kernels of conv1, 5×5\n(red positive, blue negative)"
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    side = show_tiles(axes[3], kernels, 5, title, **options)
    mark(axes[3], KERNEL % 5 * side, KERNEL // 5 * side, side + 1)
    title = "4: after conv2, relu2 and\nmaxpool2, 50 maps of 4×4"
    bright["vmax"] = maps2.quantile(0.995)
    show_tiles(axes[4], pooled2[0], 8, title, **bright)

    axes[5].barh(CLASSES, probabilities, color=MARK)
    axes[5].set(xlim=(0, 1.3), xticks=[])
    for number, probability in enumerate(probabilities):
        text = f"{probability:.1%}"
        axes[5].text(probability + 0.03, number, text, color=LIGHT, fontsize=13, va="center")
    axes[5].invert_yaxis()
    add_title(axes[5], "5: after fc1, relu3, fc2 and\nsoftmax, ten probabilities")
    axes[5].axis("on")
    axes[5].tick_params(colors=LIGHT, labelsize=14, length=0)
    axes[5].set(facecolor=DARK, frame_on=False)
    left, bottom, width, height = axes[5].get_position().bounds
    axes[5].set_position([left + 0.06, bottom, width - 0.06, height])
    axes[5].title.set_x(0.4)
    # the kernels are no stage of the data: no arrow leads to them
    for start, end in [(0, 1), (1, 2), (4, 5)]:
        left, right = axes[start].get_position(), axes[end].get_position()
        y, x = (left.y0 + left.y1) / 2, right.x0 - (0.06 if end == 5 else 0.004)
        add_arrow(figure, (left.x1 + 0.004, y), (x, y))
    third, fourth = axes[2].get_position(), axes[4].get_position()
    add_arrow(figure, (third.x0 + 0.02, third.y0 - 0.005), (fourth.x1 - 0.02, fourth.y1 + 0.075))
    figure.savefig(path, facecolor=DARK)


def draw_warps(path, images):
    """Show images in a row, and below each, three random warps of it."""
    torch.manual_seed(2)
    rows = [images, *(warp(images) for _ in range(3))]
    figure = new_figure(10, 4.3)
    for number, row in enumerate(rows):
        axes = figure.add_axes([0.13, 0.01 + 0.245 * (3 - number), 0.86, 0.235])
        axes.imshow(make_grid(row, nrow=10, padding=1, pad_value=0.4)[0], cmap="gray")
        axes.axis("off")
        title, color = (f"warp {number}", LIGHT) if number else ("original", MARK)
        y = 0.13 + 0.245 * (3 - number)
        figure.text(0.065, y, title, color=color, fontsize=17, ha="center", va="center")
    figure.savefig(path, facecolor=DARK)


def draw_pad(path, model, checkpoint):
    """Show the window of predict.py --draw, with a character drawn in it."""
    canvas = np.zeros((windows.CANVAS_SIDE, windows.CANVAS_SIDE), np.uint8)
    for stroke in HAND:
        for start, end in zip(stroke, stroke[1:]):
            cv2.line(canvas, start, end, 255, windows.LINE_WIDTH, cv2.LINE_AA)
    drawing = Image.fromarray(np.pad(canvas, windows.MARGIN))
    image, probabilities, _ = own_pictures.predict_picture(drawing, model, checkpoint)
    card = own_pictures.annotate(image, probabilities, CLASSES)
    window = np.hstack([cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), card])
    border = cv2.copyMakeBorder(window, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(128,) * 3)
    cv2.imwrite(str(path), border)


def draw_photograph(path, model, checkpoint):
    """Imitate a photograph of a sheet on a desk, in uneven light, and show what is made of it."""
    rng = np.random.default_rng(0)
    grain = cv2.GaussianBlur(rng.normal(0, 40, (480, 480)), (0, 0), 9, sigmaY=1)
    desk = np.stack([150 + grain, 105 + grain, 70 + grain], axis=-1)
    sheet = np.full((480, 480, 3), 235, np.uint8)
    draw_character(sheet, "ma", x=170, y=150, size=190, color=(40, 40, 90), width=15)
    # the sheet is seen from an angle: its corners, clockwise from the top left
    corners = np.float32([[85, 70], [395, 95], [410, 420], [60, 400]])
    view = cv2.getPerspectiveTransform(
        np.float32([[90, 70], [420, 70], [420, 420], [90, 420]]), corners
    )
    inside = cv2.fillConvexPoly(np.zeros((480, 480, 1)), corners.astype(np.int32), 1)
    photograph = np.where(inside > 0, cv2.warpPerspective(sheet, view, (480, 480)), desk)
    rows, columns = np.mgrid[0:1:480j, 0:1:480j]
    light = 1.05 - 0.5 * columns * rows
    noisy = photograph * light[..., None] + rng.normal(0, 4, photograph.shape)
    picture = Image.fromarray(cv2.GaussianBlur(noisy, (0, 0), 0.8).clip(0, 255).astype(np.uint8))
    image, probabilities, box = own_pictures.predict_picture(picture, model, checkpoint)
    cv2.imwrite(str(path), own_pictures.annotate(image, probabilities, CLASSES, picture, box))


def draw_results(path, model, checkpoint):
    """Draw plot.png with notes."""
    images, labels = load_test_images(checkpoint)
    results = labels, predict(model, images).argmax(dim=1), checkpoint["classes"]
    history = checkpoint["history"]
    figure = draw_plot(history, "LeNet on KMNIST", results)
    loss, accuracy, _ = figure.axes
    style = {"arrowprops": {"arrowstyle": "->"}, "fontsize": 12, "ha": "center"}
    style["textcoords"] = "axes fraction"
    lowest = min(history["val_loss"])
    epoch = history["val_loss"].index(lowest) + 1
    loss.annotate("the lowest\nvalidation loss", (epoch, lowest), (0.5, 0.45), **style)
    for metric, y, text in [
        ("val_acc", 0.48, "validation accuracy,\nafter the first epoch"),
        ("train_acc", 0.29, "training accuracy, the\nmean of the first epoch"),
    ]:
        accuracy.annotate(text, (1, history[metric][0]), (0.58, y), **style)
    gap = (history["train_acc"][-1] + history["val_acc"][-1]) / 2
    accuracy.annotate("the gap: overfitting", (len(history["val_acc"]), gap), (0.62, 0.68), **style)
    figure.savefig(path)


def main():
    synthetic, kmnist, folder = map(Path, sys.argv[1:])
    model, checkpoint = load_network(synthetic)
    data = load_dataset("synthetic").test
    image, label = data[IMAGE]
    draw_convolution(folder / "convolution.png", model, image)
    draw_network(folder / "network.png", model, image, label)
    # an image of each class that is easy to read
    numbers = [31, 175, 162, 299, 153, 116, 147, 15, 270, 203]
    chosen = [np.flatnonzero(data.tensors[1] == i)[number] for i, number in enumerate(numbers)]
    draw_warps(folder / "warps.png", data[chosen][0])
    draw_pad(folder / "drawing.png", model, checkpoint)
    draw_photograph(folder / "photograph.png", model, checkpoint)
    draw_results(folder / "plot.png", *load_network(kmnist))
    for name, flags in {"predictions.png": [], "mistakes.png": ["--mistakes", "-n", "5"]}.items():
        paths = ["-m", str(synthetic), "-o", str(folder / name)]
        command = [sys.executable, str(ROOT / "predict.py"), *paths, "--no-display", *flags]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
