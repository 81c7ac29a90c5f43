"""Make two figures of the README: `python tests/benchmarks/figures.py output/model.pth .images`.

warps.png: ten synthetic characters, and under each of them seven random warps, as with --augment.
network.png: one image on its way through the network that is in the model file.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torchvision.utils import make_grid, save_image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules.augment import warp
from modules.checkpoint import load_checkpoint
from modules.lenet import LeNet
from modules.synthetic import STROKES, draw_images

DARK, LIGHT = "#282c30", "#f0f0f0"


def draw_warps(path, chosen):
    torch.manual_seed(0)
    rows = torch.cat([chosen, *(warp(chosen) for _ in range(7))])
    grid = make_grid(rows, nrow=10, padding=1, pad_value=0.4)
    save_image(torch.nn.functional.interpolate(grid[None], scale_factor=2.4), path)


def show_tiles(axes, maps, columns, title, **options):
    """Show maps, (N, H, W), as a grid of tiles."""
    grid = make_grid(maps[:, None], nrow=columns, padding=1, pad_value=torch.nan)[0]
    axes.imshow(grid, interpolation="nearest", **options)
    axes.set_title(title, color=LIGHT, fontsize=11)
    axes.set_anchor("N")
    axes.axis("off")


def draw_network(path, model, image):
    kernels = model.conv1.weight.detach()[:, 0]
    with torch.inference_mode():
        maps1 = model.relu1(model.conv1(image[None]))
        maps2 = model.relu2(model.conv2(model.maxpool1(maps1)))
        probabilities = model(image[None])[0].exp()

    figure = Figure(figsize=(10, 6.6), facecolor=DARK)
    top, bottom = figure.subfigures(2, 1, facecolor=DARK, height_ratios=(1, 1.05))
    three, two = top.subplots(1, 3), bottom.subplots(1, 2, width_ratios=(2, 1))
    for part in (top, bottom):
        part.subplots_adjust(left=0.03, right=0.97, top=0.85, bottom=0.1, wspace=0.12)

    show_tiles(three[0], image, 1, "the input:\none image of 28×28", cmap="gray")
    limit = kernels.abs().max()
    title = "conv1: 20 kernels of 5×5\n(red: positive, blue: negative)"
    show_tiles(three[1], kernels, 5, title, cmap="RdBu_r", vmin=-limit, vmax=limit)
    title = "after conv1 and relu1:\n20 feature maps of 24×24"
    show_tiles(three[2], maps1[0], 5, title, cmap="gray", vmax=maps1.quantile(0.995))
    title = "after conv2 and relu2:\n50 feature maps of 8×8"
    show_tiles(two[0], maps2[0], 10, title, cmap="gray", vmax=maps2.quantile(0.99))
    two[1].barh(list(STROKES), probabilities, color="#6ee66e")
    two[1].invert_yaxis()
    two[1].set(xlim=(0, 1), facecolor=DARK)
    two[1].set_title(
        "after fc2, logSoftmax and exp():\nten probabilities", color=LIGHT, fontsize=11
    )
    two[1].tick_params(colors=LIGHT)
    figure.savefig(path, facecolor=DARK)


def main():
    model_path, folder = map(Path, sys.argv[1:])
    images, labels = draw_images(200, seed=4)
    images = images.unsqueeze(1) / 255
    # an image of each class that is easy to read
    numbers = [8, 4, 9, 1, 3, 11, 8, 7, 4, 10]
    chosen = [np.flatnonzero(labels == label)[number] for label, number in enumerate(numbers)]
    draw_warps(folder / "warps.png", images[chosen])

    model = LeNet(numChannels=1, classes=10).eval()
    model.load_state_dict(load_checkpoint(model_path)["model"])
    # an image of which the network is not too sure
    draw_network(folder / "network.png", model, images[0])


if __name__ == "__main__":
    main()
