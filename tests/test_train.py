"""A training: what it prints, saves and learns, and that its parts do what the tutorial's do."""

import train
from modules.augment import warp
from modules.lenet import LeNet
from modules.plots import draw_plot, save_plot

import os
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import tutorial
from conftest import CLASSES, Script, log_probs_of, read_split
from idx import read_dataset, write_dataset
from torch.nn import Conv2d, Linear, LogSoftmax, MaxPool2d, NLLLoss, ReLU
from torch.nn.functional import nll_loss


def pixels(image):
    return image.numpy().tobytes()


def stop(*_):
    raise KeyboardInterrupt


def test_prints_the_story_of_the_run(trained, data):
    out = trained.run.stdout
    assert f"images from {data / 'KMNIST' / 'raw'}" in out
    assert "[INFO] KMNIST: 900 training, 300 validation, 300 test images" in out
    assert re.findall(r"^\[INFO\] epoch (.*)$", out, re.M) == [f"{n}/5" for n in range(1, 6)]
    end = rf"^\[INFO\] trained in \d+\.\d s: see {trained.model}, {trained.plot}$"
    assert re.search(end, out, re.M)
    assert {path.name for path in trained.folder.iterdir()} == {"model.pth", "plot.png"}
    assert trained.run.stderr == "", "progress bars belong on a terminal alone"
    # a row of the report for every class, by name, and the accuracy that the model has
    assert re.findall(r"^ +([a-z]+) +[\d.]+ +[\d.]+ +[\d.]+ +30$", out, re.M) == CLASSES
    images, labels = read_split(data, "t10k")
    accuracy = (log_probs_of(trained.model, images).argmax(dim=1) == labels).double().mean().item()
    assert re.search(r"^ +accuracy +([\d.]+) +300$", out, re.M)[1] == f"{accuracy:.4f}"
    assert accuracy > 0.4, "guessing gives 0.1"


def loss_and_accuracy(model, data, chosen):
    """Return what a saved network has on the chosen training images."""
    images, labels = (values[chosen] for values in read_split(data, "train"))
    log_probs = log_probs_of(model, images)
    accuracy = (log_probs.argmax(dim=1) == labels).double().mean().item()
    return pytest.approx(nll_loss(log_probs, labels).item(), rel=1e-5), pytest.approx(accuracy)


def test_model_file_is_plain_data_with_means_over_images(trained, data):
    """In which the last batch, which is smaller than the others, counts less."""
    checkpoint = torch.load(trained.model, weights_only=True)
    assert checkpoint["classes"] == CLASSES
    assert (checkpoint["dataset"], checkpoint["data"]) == ("kmnist", str(data))
    assert checkpoint["settings"] == {
        "batch_size": 64, "lr": 1e-3, "val_split": 0.25, "seed": 42, "augment": False, "amp": False,
        "epochs": 5,
    }  # fmt: skip
    history = checkpoint["history"]
    assert history.keys() == {"train_loss", "train_acc", "val_loss", "val_acc"}
    assert all(len(values) == 5 for values in history.values())
    assert history["train_loss"][0] > history["train_loss"][-1]
    validated = torch.randperm(1200, generator=torch.Generator().manual_seed(42))[900:]
    expected = loss_and_accuracy(trained.model, data, validated)
    assert (history["val_loss"][-1], history["val_acc"][-1]) == expected


def test_training_figures_are_means_over_the_training_images(data, paths, call_main):
    """With steps too small to matter, they are what the network at the start has."""
    run = call_main("train.py", *paths, "-e", 1, "--lr", 1e-12)
    history = torch.load(paths[3])["history"]
    trained_on = torch.randperm(1200, generator=torch.Generator().manual_seed(42))[:900]
    expected = loss_and_accuracy(paths[3], data, trained_on)
    assert (history["train_loss"][0], history["train_acc"][0]) == expected
    numbers = re.findall(r"(?:loss|accuracy) ([\d.]+)", run.stdout)
    assert numbers == [
        f"{history[key][0]:.4f}" for key in ("train_loss", "train_acc", "val_loss", "val_acc")
    ]


def test_seed_chooses_the_initial_weights_and_the_split(paths, monkeypatch, call_main):
    first = []

    def look(model, loader, *_):
        first.append((model.conv1.weight.sum().item(), loader.dataset.indices[:9]))
        stop()

    monkeypatch.setattr(train, "train_epoch", look)
    for seed in (1, 1, 2):
        call_main("train.py", *paths, "--seed", seed)
    assert first[0] == first[1]
    assert first[0][0] != first[2][0] and first[0][1] != first[2][1]


def test_defaults(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    args = train.parse_arguments()
    defaults = {name: str(value) for name, value in vars(args).items() if name != "device"}
    assert defaults == {
        "model": str(Path("output/model.pth")), "plot": str(Path("output/plot.png")),
        "data": "None", "dataset": "auto", "epochs": "10", "batch_size": "64", "lr": "0.001",
        "val_split": "0.25", "augment": "False", "amp": "False", "resume": "False", "seed": "42",
    }  # fmt: skip


def test_curves_and_their_names(tmp_path):
    keys = ("train_loss", "train_acc", "val_loss", "val_acc")
    history = {key: [number / 10, number / 20] for number, key in enumerate(keys)}
    figure = draw_plot(history, "")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    for axes, metric in zip(figure.axes, ("loss", "acc")):
        shown = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        trained, validated = history[f"train_{metric}"], history[f"val_{metric}"]
        assert shown == {"training": trained, "validation": validated}
        assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2], [1, 2]]
    assert axes.yaxis.get_major_formatter()(0.5).startswith("50"), "in percent"
    assert draw_plot(history, "the title").get_suptitle() == "the title"
    # the last chart is the confusion matrix: a row for each class, a column for each prediction
    results = [0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [r"$\x_{$ and more", "ねこ"]
    *_, axes = draw_plot(history, "", results).axes
    assert [text.get_text() for text in axes.texts] == ["1", "1", "0", "3"]
    assert [text.get_text() for text in axes.get_yticklabels()] == [r"\$\x_{\$ and m", "class 1"]
    save_plot(tmp_path / "plot.png", history, "a formula is none", results)
    assert len(draw_plot(history, "", ([0, 0], [0, 0], ["cat", "dog"])).axes) == 2
    # of many classes, the squares without the numbers; a class that does not occur has none
    many = list(range(1, 14))
    *_, axes = draw_plot(history, "", (many, many, list("abcdefghijklmn"))).axes
    assert not axes.texts
    assert [text.get_text() for text in axes.get_yticklabels()] == list("bcdefghijklmn")
    # epochs are whole numbers, also where there is but one
    axes, *_ = draw_plot({key: [0.5] for key in keys}, "").axes
    assert [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5] == [1]
    save_plot(tmp_path / "plot.png", history, "LeNet on 3 classes of pictures")
    plot = cv2.imread(str(tmp_path / "plot.png"))
    # both halves show a curve in matplotlib's first colour and one in its second
    for half in np.hsplit(plot, 2):
        for blue_green_red in ((180, 119, 31), (14, 127, 255)):
            assert (half == blue_green_red).all(axis=2).sum() > 200


@pytest.mark.parametrize("share", [0.1, 1 / 3])
def test_train_validation_and_test_never_share_an_image(share, paths, monkeypatch, call_main):
    """In the loaders that train.py makes."""
    seen = []

    class WatchedLoader(train.DataLoader):
        def __init__(self, dataset, *options, **more):
            super().__init__(dataset, *options, **more)
            seen.append([pixels(image) for image, _ in dataset])

    monkeypatch.setattr(train, "DataLoader", WatchedLoader)
    monkeypatch.setattr(train, "train_epoch", stop)
    call_main("train.py", "--val-split", share, *paths)

    num_val = round(1200 * share)
    assert [len(images) for images in seen] == [1200 - num_val, num_val, 300]
    assert len(set().union(*seen)) == 1500, "no image twice, and none left out"


def test_first_losses_are_the_tutorials(data, paths, monkeypatch, tmp_path, call_main):
    losses = []

    class WatchedLoss(NLLLoss):
        def forward(self, log_probs, labels):
            loss = super().forward(log_probs, labels)
            if torch.is_grad_enabled():
                losses.append(loss.item())
            return loss

    monkeypatch.setattr(train, "NLLLoss", WatchedLoss)
    monkeypatch.setattr(tutorial, "NLLLoss", WatchedLoss)
    tutorial.run(data, 42, 1, tmp_path)
    assert call_main("train.py", "-e", 1, *paths).returncode == 0
    assert len(losses) == 30
    # the same sums in another order: what rounding changes grows from step to step
    assert losses[15:23] == pytest.approx(losses[:8], rel=1e-5)


def test_layers_are_the_tutorials_in_its_order():
    pool = MaxPool2d(kernel_size=(2, 2), stride=(2, 2))
    expected = {
        "conv1": Conv2d(3, 20, (5, 5)), "relu1": ReLU(), "maxpool1": pool,
        "conv2": Conv2d(20, 50, (5, 5)), "relu2": ReLU(), "maxpool2": pool,
        "fc1": Linear(800, 500), "relu3": ReLU(),
        "fc2": Linear(500, 49), "logSoftmax": LogSoftmax(dim=1),
    }  # fmt: skip
    model = LeNet(numChannels=3, classes=49)
    assert str(dict(model.named_children())) == str(expected)
    x = images = torch.rand(7, 3, 28, 28)
    for name, layer in model.named_children():
        x = layer(x.reshape(7, 800) if name == "fc1" else x)
    assert torch.equal(model(images), x)


@pytest.fixture
def watched(monkeypatch, paths, call_main):
    """Run train.py; return what its parts got and gave, in the order of the calls."""

    def watch(*flags):
        seen = {"image": [], "log_probs": [], "lr": [], "modes": []}

        class WatchedNet(LeNet):
            def forward(self, x):
                log_probs = super().forward(x)
                seen["modes"].append((self.training, torch.is_grad_enabled()))
                if self.training:
                    seen["image"] += x.cpu()
                    seen["log_probs"].append(log_probs.dtype)
                return log_probs

        train_epoch = train.train_epoch

        def watched_epoch(model, loader, loss_fn, adam, *rest):
            if "net" not in seen:
                seen.update(net=model, loss_fn=loss_fn, adam=adam, group=adam.param_groups[0])
                adam.register_step_pre_hook(lambda *_: seen["lr"].append(seen["group"]["lr"]))
            return train_epoch(model, loader, loss_fn, adam, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(train, "LeNet", WatchedNet)
            patch.setattr(train, "train_epoch", watched_epoch)
            assert call_main("train.py", *paths, "-e", 2, *flags).returncode == 0
        return seen | torch.load(paths[3], weights_only=True)

    return watch


def test_plain_training_is_the_tutorials(watched):
    seen = watched()
    assert isinstance(seen["loss_fn"], NLLLoss)
    assert isinstance(seen["adam"], torch.optim.Adam)
    assert (seen["group"]["weight_decay"], seen["group"]["betas"]) == (0, (0.9, 0.999))
    assert set(seen["lr"]) == {1e-3}
    # what makes it fast, all in full precision
    assert seen["group"]["fused"]
    assert seen["net"].conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert set(seen["log_probs"]) == {torch.float32}
    # layers such as dropout are on in training alone: 15 batches to train on, 5 to validate on,
    # and 5 of test images at the end
    epoch = [(True, True)] * 15 + [(False, False)] * 5
    assert seen["modes"] == 2 * epoch + [(False, False)] * 5


def test_amp_computes_in_bfloat16_and_keeps_float32(watched):
    seen = watched("--amp")
    assert set(seen["log_probs"]) == {torch.bfloat16}
    assert {value.dtype for value in seen["model"].values()} == {torch.float32}
    assert seen["history"]["train_loss"][1] < seen["history"]["train_loss"][0]


def test_amp_asks_for_bfloat16(monkeypatch, paths, call_main):
    """On a GPU, float16 would be the default, which needs loss scaling."""
    asked, autocast = set(), torch.autocast

    def watched_autocast(kind, dtype=None, enabled=True):
        asked.add((dtype, enabled))
        return autocast(kind, dtype, enabled)

    monkeypatch.setattr(torch, "autocast", watched_autocast)
    call_main("train.py", *paths, "-e", 1, "--amp")
    assert asked == {(torch.bfloat16, True)}


def test_report_has_a_row_for_a_class_that_is_predicted_only(data, paths, monkeypatch, call_main):
    """And none for a class that does not occur."""
    images, labels = read_dataset(data, "t10k")
    chosen = np.isin(labels, [0, 2])
    root = paths[3].parent
    write_dataset(root, train=(images, labels), t10k=(images[chosen], labels[chosen]))
    predicted = torch.tensor([1, *labels[chosen][1:]])
    monkeypatch.setattr(train, "train_epoch", lambda *_: (1.0, 0.5))
    monkeypatch.setattr(train, "evaluate", lambda *_: (1.0, 0.5, predicted))
    report = call_main("train.py", *paths, "-d", root, "-e", 1).stdout
    assert re.findall(r"^ +([a-z]+) .* (\d+)$", report, re.M)[:3] == [
        ("o", "30"), ("ki", "0"), ("su", "30")
    ]  # fmt: skip


def test_augment_trains_on_warped_images_by_a_recipe_of_its_own(watched, data, paths):
    seen = watched("--augment", "--lr", 2e-3)
    # none of the images is as it was
    originals, _ = read_split(data, "train")
    assert not set(map(pixels, originals)) & set(map(pixels, seen["image"]))
    mean = torch.stack(seen["image"]).mean().item()
    assert mean == pytest.approx(originals.mean().item(), rel=0.2)
    assert seen["history"]["train_loss"][1] < seen["history"]["train_loss"][0]

    # 30 steps: the learning rate rises to 7 times --lr, then falls to almost nothing
    rates = seen["lr"]
    assert len(rates) == 30
    peak = rates.index(max(rates))
    assert 3 <= peak <= 5
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[-1] < 0.01 * rates[peak]
    # in a line: a peak between two steps is on it, too
    falls = np.diff(rates[peak + 1 :])
    assert falls.min() == pytest.approx(falls.max(), rel=1e-3)
    assert rates[peak + 1] - (peak + 1 - 3.5) * falls[0] == pytest.approx(7 * 2e-3, rel=0.01)

    assert seen["group"]["weight_decay"] == 0.1
    assert seen["group"]["decoupled_weight_decay"]
    # label smoothing: of 0.05, each of ten classes has a tenth
    certain, label = torch.tensor([[0.0] + 9 * [-100.0]]), torch.tensor([0])
    assert seen["loss_fn"](certain, label).item() == pytest.approx(0.05 * 0.9 * 100, rel=1e-3)
    # but not in validation, where runs are compared
    validated = torch.randperm(1200, generator=torch.Generator().manual_seed(42))[900:]
    history = seen["history"]["val_loss"][1], seen["history"]["val_acc"][1]
    assert history == loss_and_accuracy(paths[3], data, validated)


def test_warp_is_affine_and_elastic():
    """Images whose pixels are their own coordinates show where each pixel comes from."""
    line = (torch.arange(28) + 0.5) / 14 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    inside = (rows.abs() < 0.5) & (columns.abs() < 0.5)
    torch.manual_seed(0)
    warped = warp(torch.stack([columns, rows]).expand(3000, 2, 28, 28))
    targets = torch.stack([columns[inside], rows[inside], torch.ones(inside.sum())], dim=1)
    sources = warped[:, :, inside].transpose(1, 2)
    affine = torch.linalg.lstsq(targets.expand(3000, *targets.shape), sources).solution
    spread, mean = affine.std(dim=0), affine.mean(dim=0)
    # rows: the factors of x and y, then the translation; columns: x and y of the source. To the
    # standard deviations 0.12, 0.1 and 0.09, the elastic part adds a little
    expected = [[0.13, 0.111], [0.111, 0.13], [0.092, 0.092]]
    torch.testing.assert_close(spread, torch.tensor(expected), rtol=0.06, atol=0)
    torch.testing.assert_close(mean, torch.eye(3, 2), rtol=0, atol=0.02)
    # no affine map fits: a quarter of the image's side holds one to two of the elastic points
    residual = (targets @ affine - sources).square().mean().sqrt()
    assert 0.01 < residual < 0.04
    # black comes in from beyond the edges
    white = warp(torch.ones(100, 1, 28, 28))
    assert (white.min(), white.max()) == (0, pytest.approx(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("flags", [[], ["--augment"], ["--amp"]])
def test_cpu_and_cuda_agree(flags, paths, call_main):
    accuracy = {}
    for device in ("cpu", "cuda"):
        assert call_main("train.py", "-e", 5, "--device", device, *flags, *paths).returncode == 0
        accuracy[device] = torch.load(paths[3], weights_only=True)["history"]["val_acc"][-1]
    assert accuracy["cuda"] == pytest.approx(accuracy["cpu"], abs=0.1)


def test_shows_progress_on_a_terminal(paths):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals to test with")
    termios = pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    run = Script("train.py", "-e", 1, *paths, stderr=os.ttyname(theirs)).finish()
    os.write(theirs, b"the end")
    shown = os.read(ours, 1_000_000).decode()
    os.close(theirs)
    os.close(ours)
    assert run.returncode == 0
    # 900 images are 15 batches of 64
    assert re.search(r"training: .*/15 ", shown)
    assert "training:" not in run.stdout
    # a bar that is done is removed: the line is overwritten
    assert re.search(r"\r *\r", shown)


def test_real_kmnist_images(real_trained, tmp_path, call_main):
    report = real_trained.run.stdout
    assert "45000 training, 15000 validation, 10000 test images" in report
    accuracy = re.search(r"^ +accuracy +([\d.]+) +10000$", report, re.M)[1]
    # ten epochs of the tutorial end at 95%
    assert 0.9 < float(accuracy) < 0.96

    flags = ["-m", real_trained.model, "-o", tmp_path / "o.png", "--no-display", "--mistakes"]
    run = call_main("predict.py", *flags)
    assert f"misclassified, accuracy {float(accuracy):.2%}" in run.stdout
