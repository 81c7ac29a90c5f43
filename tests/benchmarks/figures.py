"""Make the README's pictures: `python tests/benchmarks/figures.py SYNTHETIC KMNIST FOLDER`.

SYNTHETIC and KMNIST are checkpoints: of train.py --dataset synthetic, and of train.py on KMNIST,
of which only the curves are used. All characters are synthetic Hiragana.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules import viewer
from modules.augment import warp
from modules.checkpoint import load_checkpoint
from modules.classifier import describe, load_network, predict
from modules.datasets import load_dataset
from modules.plots import draw_plot
from modules.preprocess import to_kmnist
from modules.synthetic import STROKES, draw_character
from predict import show_test_images

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torchvision.utils import make_grid

CLASSES = list(STROKES)
DARK, LIGHT, MARK = "#282c30", "#f0f0f0", "#ffb000"
GREEN, RED = "#6ee66e", "#ff6e6e"
# the image that is followed through the network, and the kernel and the position in conv1
IMAGE, KERNEL, ROW, COLUMN = 3636, 6, 14, 10
# the seed of predict.py that chooses ten images, one of them misclassified
PREDICTIONS = 688
# easily read ones of the mistakes, the most confident first
MISTAKES = [0, 12, 16, 39, 45]


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


def draw_convolution(path, model, image):
    """Follow one pixel of a feature map through conv1, relu1 and maxpool1, with its numbers."""
    # a part of the feature map: two blocks of max-pooling high and wide
    rows, columns = slice(ROW - 2, ROW + 2), slice(COLUMN, COLUMN + 4)
    kernel, bias = model.conv1.weight.detach()[KERNEL, 0], model.conv1.bias[KERNEL].item()
    with torch.inference_mode():
        before = model.conv1(image[None])[0, KERNEL][rows, columns]
        after = model.relu1(before)
        pooled = model.maxpool1(after[None])[0]
    pixels = image[0, ROW : ROW + 5, COLUMN : COLUMN + 5]
    total = (pixels * kernel).sum().item()

    figure = new_figure(7.6, 12.4)
    axes = figure.subplots(3, 2).flat
    figure.subplots_adjust(left=0.02, right=0.98, top=0.93, bottom=0.01, wspace=0.08, hspace=0.24)
    axes[0].imshow(image[0], cmap="gray", interpolation="nearest")
    add_title(axes[0], "1: an image of 28×28 pixels,\nand a square of 5×5")
    mark(axes[0], COLUMN, ROW, 5)
    show_numbers(axes[1], pixels, "2: the pixels\nin the square")
    show_numbers(axes[2], kernel, "3: the 25 weights\nof a kernel", limit=kernel.abs().max())
    limit = before.abs().max()
    title = f"4: part of the feature map\n({total:.3f} + bias {bias:.3f} = {total + bias:.3f})"
    show_numbers(axes[3], before, title, limit)
    show_numbers(axes[4], after, "5: after ReLU,\nno number is negative", limit)
    show_numbers(axes[5], pooled, "6: after max-pooling, the largest\nof each 2×2 block", limit)
    mark(axes[3], 0, 2, 1)
    mark(axes[4], 0, 2, 1)
    mark(axes[5], 0, 1, 1)
    figure.savefig(path, facecolor=DARK)


def draw_network(path, model, image, label):
    """Show an image on its way through the network."""
    kernels = model.conv1.weight.detach()[:, 0]
    with torch.inference_mode():
        maps1 = model.relu1(model.conv1(image[None]))
        maps2 = model.relu2(model.conv2(model.maxpool1(maps1)))
        probabilities = model(image[None])[0].exp()

    figure = new_figure(7.6, 11.6)
    axes = figure.subplots(3, 2, height_ratios=(1, 1, 0.7)).flat
    figure.subplots_adjust(left=0.02, right=0.98, top=0.93, bottom=0.02, wspace=0.08, hspace=0.2)
    axes[0].imshow(image[0], cmap="gray", interpolation="nearest")
    add_title(axes[0], f"1: an image of 28×28 pixels,\nits class: {CLASSES[label]}")
    limit = kernels.abs().max()
    title = "2: conv1, 20 kernels of 5×5\n(red positive, blue negative)"
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    side = show_tiles(axes[1], kernels, 5, title, **options)
    mark(axes[1], KERNEL % 5 * side, KERNEL // 5 * side, side + 1)
    title = "3: after conv1 and relu1,\n20 feature maps of 24×24"
    side = show_tiles(axes[2], maps1[0], 5, title, cmap="gray", vmax=maps1.quantile(0.995))
    mark(axes[2], KERNEL % 5 * side, KERNEL // 5 * side, side + 1)
    # the maps in which most happens
    strongest = maps2[0].flatten(1).sum(1).topk(12).indices.sort().values
    title = "4: after conv2 and relu2,\n12 of 50 feature maps of 8×8"
    show_tiles(axes[3], maps2[0, strongest], 4, title, cmap="gray", vmax=maps2.quantile(0.995))

    axes[5].axis("off")
    axes[4].set_position([0.1, 0.02, 0.84, 0.25])
    axes[4].set(xlim=(0, 1.1), facecolor=DARK, xticks=[])
    colors = [GREEN if number == label else RED for number in range(len(CLASSES))]
    axes[4].barh(CLASSES, probabilities, color=colors)
    for number, probability in enumerate(probabilities):
        text = f"{probability:.1%}"
        axes[4].text(probability + 0.01, number, text, color=LIGHT, fontsize=13, va="center")
    axes[4].invert_yaxis()
    axes[4].set_title("5: after logSoftmax and exp(), ten probabilities", color=LIGHT, fontsize=15)
    axes[4].tick_params(colors=LIGHT, labelsize=14, length=0)
    axes[4].set_frame_on(False)
    figure.savefig(path, facecolor=DARK)


def draw_warps(path, images):
    """Show images in a row, and below each, three random warps of it."""
    torch.manual_seed(0)
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


def draw_pad(path, model):
    """Show the window of predict.py --draw, with a character drawn in it."""
    canvas = np.zeros((viewer.CANVAS_SIDE, viewer.CANVAS_SIDE), np.uint8)
    draw_character(canvas, "ki", 90, 80, 330, 255, viewer.LINE_WIDTH)
    image = to_kmnist(Image.fromarray(np.pad(canvas, viewer.MARGIN)))
    label, lines = describe(predict(model, image[None])[0], CLASSES)
    window = [cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), viewer.annotate(image, label, lines)]
    border = cv2.copyMakeBorder(
        np.hstack(window), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(128,) * 3
    )
    cv2.imwrite(str(path), border)


def draw_curves(path, history):
    """Draw plot.png with notes."""
    figure = draw_plot(history, "LeNet on KMNIST")
    loss, accuracy = figure.axes
    style = {"arrowprops": {"arrowstyle": "->"}, "fontsize": 12, "ha": "center"}
    style["textcoords"] = "axes fraction"
    lowest = min(history["val_loss"])
    epoch = history["val_loss"].index(lowest) + 1
    loss.annotate("the lowest\nvalidation loss", (epoch, lowest), (0.5, 0.45), **style)
    for metric, y, text in [
        ("val_acc", 0.55, "validation accuracy,\nafter the first epoch"),
        ("train_acc", 0.33, "training accuracy, the\nmean of the first epoch"),
    ]:
        accuracy.annotate(text, (1, history[metric][0]), (0.58, y), **style)
    figure.savefig(path)


def main():
    synthetic, kmnist, folder = map(Path, sys.argv[1:])
    model, _ = load_network(synthetic)
    data = load_dataset("synthetic", root=None, train=False)
    image, label = data[IMAGE]
    draw_convolution(folder / "convolution.png", model, image)
    draw_network(folder / "network.png", model, image, label)
    # an image of each class that is easy to read
    numbers = [31, 175, 162, 299, 153, 116, 147, 15, 270, 203]
    chosen = [np.flatnonzero(data.labels == i)[number] for i, number in enumerate(numbers)]
    draw_warps(folder / "warps.png", data[chosen][0])
    draw_pad(folder / "drawing.png", model)
    draw_curves(folder / "plot.png", load_checkpoint(kmnist)["history"])

    shown = show_test_images(model, data, num=10, seed=PREDICTIONS)
    viewer.save_montage(folder / "predictions.png", shown)
    wrong = show_test_images(model, data, num=len(data), seed=0, mistakes=True)
    viewer.save_montage(folder / "mistakes.png", [wrong[number] for number in MISTAKES])


if __name__ == "__main__":
    main()
