"""Compare recipes of `--augment` on validation images unlike those trained on.

KMNIST's test images differ from its training images, so validation images of the same kind hardly
reward what would help with them. Here, training images unlike the others validate, of each class:

- width, steep: the third with the thinnest strokes, or with the steepest edges
- cluster1, cluster2: the smallest, or the second smallest, of three groups of similar images (by
  k-means), which often are other forms of the character

The test images themselves are not looked at.

    python tests/benchmarks/shifted.py width plain augment mixup=0.2 cutout+wd=0.3

A recipe is `plain` (train.py without --augment), `augment`, or changes of it, joined by +: see
CHANGES.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from modules import augment
from modules.datasets import load_dataset
from modules.lenet import LeNet
from modules.shapes import stroke_width

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch.nn import CrossEntropyLoss, NLLLoss
from torch.nn.functional import avg_pool2d, dropout, grid_sample, max_pool2d
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

# what can be changed, and what it is with --augment; without a number, 1 turns it on
CHANGES = {
    "warp": 1, "wd": 0.1, "ls": 0.05, "peak": 7, "batch": 64, "lr": 1e-3, "ema": 0,
    "cutout": 0, "thick": 0, "thin": 0, "sharpen": 0, "noise": 0, "bright": 0, "mixup": 0,
    "manifold": 0, "cutmix": 0, "drop": 0, "bicubic": 0, "keep": 0, "sgd": 0, "blur": 0,
    "scale": augment.SCALE, "elastic": augment.ELASTIC,
}  # fmt: skip


def parse(recipe):
    """Return the numbers of a recipe, such as `mixup=0.2+wd=0.3`."""
    numbers = dict(CHANGES)
    for word in [] if recipe in ("plain", "augment") else recipe.split("+"):
        name, _, value = word.partition("=")
        if name not in CHANGES:
            sys.exit(f"there is no change {name}: choose from {', '.join(CHANGES)}")
        numbers[name] = float(value or 1)
    return numbers


def split(name, images, labels):
    """Return the indices of the images to train on, and of those that validate."""
    is_train = np.ones(len(labels), bool)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        is_train[own[choose(name, images[own])]] = False
    return np.flatnonzero(is_train), np.flatnonzero(~is_train)


def choose(name, images):
    """Return the indices of those images, of one class, that validate."""
    if name in STYLES:
        scores = np.array([STYLES[name](image) for image in images])
        return np.argsort(-scores)[: len(images) // 3]
    groups = KMeans(3, n_init=3, random_state=0).fit_predict(images.reshape(-1, 784))
    smallest_first = np.bincount(groups).argsort()
    return np.flatnonzero(groups == smallest_first[int(name[-1]) - 1])


def thinness(image):
    return -stroke_width(np.uint8(image > 100))


def steepness(image):
    """Return how steep the edges are: the root of the slopes' squares, divided by their sum."""
    ink = image / np.float32(255)
    slopes = np.diff(ink, axis=1), np.diff(ink, axis=0)
    length = np.sqrt(sum((slope**2).sum() for slope in slopes))
    return length / max(1, sum(np.abs(slope).sum() for slope in slopes))


STYLES = {"width": thinness, "steep": steepness}


def change(images, numbers):
    """Return images, (N, 1, 28, 28), changed at random."""

    def one_each(low, high):
        return torch.empty(len(images), 1, 1, 1).uniform_(low, high)

    originals, mode = images, "bicubic" if numbers["bicubic"] else "bilinear"
    changed = {"SCALE": numbers["scale"], "ELASTIC": numbers["elastic"]}
    with patch.multiple(augment, grid_sample=partial(grid_sample, mode=mode), **changed):
        images = augment.warp(images, numbers["warp"]).clamp(0, 1)
    if numbers["keep"]:
        images = torch.where(one_each(0, 1) < numbers["keep"], originals, images)
    if numbers["cutout"]:
        top, left = torch.randint(0, 22, (2, len(images), 1, 1))
        rows, columns = torch.arange(28).view(1, 28, 1), torch.arange(28).view(1, 1, 28)
        inside = (rows >= top) & (rows < top + 7) & (columns >= left) & (columns < left + 7)
        images = images.masked_fill(inside.unsqueeze(1), 0)
    thickest, thinnest = max_pool2d(images, 3, 1, 1), -max_pool2d(-images, 3, 1, 1)
    if numbers["thick"]:
        amount = torch.randn(len(images), 1, 1, 1) / 2
        thicker = images + amount.clamp(0, 1) * (thickest - images)
        thinner = images - amount.clamp(-1, 0) * (thinnest - images)
        images = torch.where(amount > 0, thicker, thinner)
    if numbers["thin"]:
        images = images + one_each(-0.3, 0.7).clamp(min=0) * (thinnest - images)
    if numbers["blur"]:
        blurred = avg_pool2d(images, 3, 1, 1)
        images = images + one_each(0, 1) * (blurred - images)
    if numbers["sharpen"]:
        images = ((images - 0.5) * (1 + one_each(0, 2)) + 0.5).clamp(0, 1)
    if numbers["noise"]:
        images = (images + numbers["noise"] * torch.randn_like(images)).clamp(0, 1)
    if numbers["bright"]:
        images = (images * one_each(0.7, 1.3)).clamp(0, 1)
    return images


def forward(model, images, mix, depth, rate):
    """Return log-probabilities; mix() mixes images, or the maps after `depth` pairs of layers."""
    x = mix(images) if depth == 0 else images
    x = model.maxpool1(model.relu1(model.conv1(x)))
    x = mix(x) if depth == 1 else x
    x = model.maxpool2(model.relu2(model.conv2(x))).flatten(1)
    x = mix(x) if depth == 2 else x
    x = model.relu3(model.fc1(dropout(x, rate)))
    return model.logSoftmax(model.fc2(dropout(x, rate)))


def train(images, labels, recipe, seed, epochs):
    """Return a trained network. images: (N, 1, 28, 28) float32; labels: (N,) int64."""
    numbers, is_plain = parse(recipe), recipe == "plain"
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = LeNet(numChannels=1, classes=10).to(memory_format=torch.channels_last)
    batch_size, lr = int(numbers["batch"]), numbers["lr"]
    optimizer, loss_fn, scheduler = Adam(model.parameters(), lr=lr, fused=True), NLLLoss(), None
    if not is_plain:
        loss_fn = CrossEntropyLoss(label_smoothing=numbers["ls"])
        options = {"lr": lr, "weight_decay": numbers["wd"], "fused": True}
        optimizer = AdamW(model.parameters(), **options)
        if numbers["sgd"]:
            optimizer = SGD(model.parameters(), momentum=0.9, nesterov=True, **options)
        num_steps = -(-len(images) // batch_size) * epochs
        scheduler = OneCycleLR(
            optimizer, numbers["peak"] * lr, num_steps, pct_start=0.15, anneal_strategy="linear"
        )
    decay = numbers["ema"]
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
    alpha = numbers["mixup"] or numbers["manifold"]
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch_size):
            x, y = images[chosen], labels[chosen]
            x = x if is_plain else change(x, numbers)
            share, partner, depth = 1, slice(None), None
            if alpha:
                share, partner = rng.beta(alpha, alpha), torch.randperm(len(x))
                depth = int(torch.randint(0, 3, (1,))) if numbers["manifold"] else 0

            if numbers["cutmix"]:
                partner, side = torch.randperm(len(x)), int(28 * (1 - rng.random()) ** 0.5)
                top, left = rng.integers(0, 29 - side, 2)
                box = (..., slice(top, top + side), slice(left, left + side))
                x = x.clone()
                x[box] = x[partner][box]
                share = 1 - side * side / 784

            def mix(h, share=share, partner=partner):
                return share * h + (1 - share) * h[partner]

            log_probs = forward(model, x, mix, depth, numbers["drop"])
            loss = share * loss_fn(log_probs, y) + (1 - share) * loss_fn(log_probs, y[partner])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            if average:
                average.update_parameters(model)
    return average.module if average else model


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("split", choices=[*STYLES, "cluster1", "cluster2"])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    for recipe in args.recipes:
        parse(recipe)

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    images, labels = load_dataset("kmnist", args.data).train[:]
    pixels = (255 * images[:, 0]).round().byte().numpy()
    trained_on, validated_on = split(args.split, pixels, labels.numpy())
    print("| recipe | seed | validation accuracy | loss |\n| --- | --- | --- | --- |")
    for recipe in args.recipes:
        for seed in args.seeds:
            model = train(images[trained_on], labels[trained_on], recipe, seed, args.epochs).eval()
            with torch.inference_mode():
                parts = [model(part) for part in images[validated_on].split(500)]
            log_probs, truth = torch.cat(parts), labels[validated_on]
            accuracy = (log_probs.argmax(dim=1) == truth).double().mean()
            loss = NLLLoss()(log_probs, truth)
            print(f"| {recipe} | {seed} | {accuracy:.2%} | {loss:.4f} |", flush=True)


if __name__ == "__main__":
    main()
