"""A training: what it prints, saves and learns, and that its parts do what the tutorial's do."""

import train
from modules import devices
from modules.augment import warp
from modules.lenet import LeNet
from modules.plots import describe_confusions, draw_plot

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
    assert re.search(r"^\[INFO\] confused most often: \d+ of 30 \w+ predicted as \w+, ", out, re.M)
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
        "use_bfloat16": "False",
    }  # fmt: skip


KEYS = ("train_loss", "train_acc", "val_loss", "val_acc")
HISTORY = {key: [number / 10, number / 20] for number, key in enumerate(KEYS)}


def texts(labels):
    return [label.get_text() for label in labels]


def test_curves_and_their_names(tmp_path):
    figure = draw_plot(HISTORY, "the title")
    assert figure.get_suptitle() == "the title"
    (legend,) = figure.legends
    assert texts(legend.get_texts()) == ["training", "validation"]
    for axes, metric, label in zip(figure.axes, ("loss", "acc"), ("Loss", "Accuracy")):
        shown = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        trained, validated = HISTORY[f"train_{metric}"], HISTORY[f"val_{metric}"]
        assert shown == {"training": trained, "validation": validated}
        assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2], [1, 2]]
        assert (axes.get_xlabel(), axes.get_ylabel().split()[0]) == ("Epoch", label)
    assert axes.yaxis.get_major_formatter()(0.5).startswith("50"), "in percent"
    # epochs are whole numbers, also where there is but one
    axes, *_ = draw_plot({key: [0.5] for key in KEYS}, "").axes
    assert [tick for tick in axes.get_xticks() if 0.5 <= tick <= 1.5] == [1]
    figure.savefig(tmp_path / "plot.png")
    plot = cv2.imread(str(tmp_path / "plot.png"))
    # both halves show a curve in matplotlib's first colour and one in its second
    for half in np.hsplit(plot, 2):
        for blue_green_red in ((180, 119, 31), (14, 127, 255)):
            assert (half == blue_green_red).all(axis=2).sum() > 200


def test_confusion_matrix(capsys):
    """A row for each true class, a column for each prediction; none for what does not occur."""
    results = [0, 0, 2, 2, 2], [0, 2, 2, 2, 2], ["$x_{$ é ß Ж", "unseen", "ねこ"]
    *_, axes = draw_plot(HISTORY, "", results).axes
    assert texts(axes.texts) == ["1", "1", "0", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")
    expected = [r"\$x_{\$ é ß Ж", "class 2"]
    assert texts(axes.get_yticklabels()) == texts(axes.get_xticklabels()) == expected
    # what matplotlib's font lacks is explained
    assert capsys.readouterr().out == "[INFO] in the picture, class 2 is ねこ\n"
    # of a single class, there is nothing to confuse
    assert len(draw_plot(HISTORY, "", ([0, 0], [0, 0], ["cat", "dog"])).axes) == 2


@pytest.mark.parametrize("number", [10, 20, 49, 120])
def test_names_of_many_classes_are_kept_apart(number, tmp_path):
    names = [f"hiragana_letter_{k}" for k in range(number)]
    figure = draw_plot(HISTORY, "", (range(number), range(number), names))
    figure.savefig(tmp_path / "plot.png")
    *_, axes = figure.axes
    labels = axes.get_yticklabels()
    assert len(set(texts(labels))) == len(labels) >= min(number, 24)
    boxes = [label.get_window_extent() for label in labels]
    assert all(above.y0 >= below.y1 - 1 for above, below in zip(boxes, boxes[1:]))
    assert boxes[0].height >= 6, "legible"
    assert bool(axes.texts) == (number == 10), "more numbers would not fit"


def test_plot_is_not_drawn_after_every_short_epoch(paths, monkeypatch, call_main):
    drawn = []

    def watched(*arguments):
        drawn.append(arguments)
        return draw_plot(*arguments)

    monkeypatch.setattr("modules.plots.draw_plot", watched)
    assert call_main("train.py", *paths, "-e", 4).returncode == 0
    # the last one has the results on the test images
    assert len(drawn) < 4 and len(drawn[-1][0]["val_acc"]) == 4
    assert drawn[0][2] is None and drawn[-1][2] is not None
    assert [figure[1] for figure in drawn] == ["LeNet on KMNIST"] * len(drawn)


def test_what_is_confused_most_is_said_in_words():
    labels, predictions = [0, 0, 0, 0, 1, 1, 1, 2], [0, 1, 1, 2, 0, 0, 0, 2]
    said = describe_confusions(labels, predictions, ["cat", "dog", "cow"])
    pairs = "3 of 3 dog predicted as cat, 2 of 4 cat predicted as dog, 1 of 4 cat predicted as cow"
    assert said == f"confused most often: {pairs}"
    assert describe_confusions([0, 1], [0, 1], ["cat", "dog"]) == "confused most often: none"


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
    # the same sums in another order: what rounding changes grows from step to step, so the first
    # three are compared; between them, the losses change by 1e-3
    assert losses[15:18] == pytest.approx(losses[:3], rel=1e-5)
    assert np.abs(np.diff(losses[:3])).min() > 1e-3


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
            seen["run"] = call_main("train.py", *paths, "-e", 2, *flags)
            assert seen["run"].returncode == 0
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


@pytest.mark.parametrize("is_fast", [True, False])
def test_amp_computes_in_bfloat16_where_that_is_fast(is_fast, watched, monkeypatch):
    """On other processors, one warning, and float32; the checkpoint keeps the wish."""
    monkeypatch.setattr("modules.devices.is_bfloat16_fast", lambda device: is_fast)
    seen = watched("--amp")
    assert set(seen["log_probs"]) == {torch.bfloat16 if is_fast else torch.float32}
    assert {value.dtype for value in seen["model"].values()} == {torch.float32}
    assert seen["history"]["train_loss"][1] < seen["history"]["train_loss"][0]
    assert seen["settings"]["amp"]
    warnings = [line for line in seen["run"].stderr.splitlines() if "--amp has no effect" in line]
    assert len(warnings) == (0 if is_fast else 1)


def test_amp_is_never_slower(monkeypatch):
    """What a processor says of itself counts, and then how long a matrix product takes."""
    cpu, asked = torch.device("cpu"), []

    def took(*seconds):
        times = iter(seconds)
        monkeypatch.setattr(devices, "repeat", lambda *_, **__: asked.append(1) or [next(times)])
        return devices.is_bfloat16_fast(cpu)

    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert took(1, 4) and not took(50, 1)
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    assert took(1, 4) and not took(50, 1)
    asked.clear()
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": False})
    assert not devices.is_bfloat16_fast(cpu) and not asked
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    assert not devices.is_bfloat16_fast(torch.device("cuda"))


def test_report_has_a_row_for_a_class_that_is_predicted_only(data, paths, monkeypatch, call_main):
    """And none for a class that does not occur."""
    images, labels = read_dataset(data, "t10k")
    chosen = np.isin(labels, [0, 2])
    root = paths[3].parent
    write_dataset(root, train=(images, labels), t10k=(images[chosen], labels[chosen]))
    predicted = torch.tensor([1, *labels[chosen][1:]])
    monkeypatch.setattr(train, "train_epoch", lambda *_: (1.0, 0.5))
    monkeypatch.setattr(train, "evaluate", lambda *_: (1.0, 0.5, predicted))
    run = call_main("train.py", *paths, "-d", root, "-e", 1)
    assert run.stderr == "", "scikit-learn would warn"
    report = run.stdout
    assert re.findall(r"^ +([a-z]+) .* (\d+)$", report, re.M)[:3] == [
        ("o", "30"), ("ki", "0"), ("su", "30")
    ]  # fmt: skip


def test_augment_learns_in_a_single_step(watched):
    (rate,) = watched("--augment", "-e", 1, "-b", 10_000)["lr"]
    assert rate > 1e-4


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


def test_shows_progress_on_a_terminal(paths, tmp_path):
    """And each warning in a line of its own."""
    fcntl = pytest.importorskip("fcntl", reason="Windows has no pseudo-terminals to test with")
    termios = pytest.importorskip("termios")
    for number, split in enumerate(12 * ["train"] + 4 * ["test"]):
        path = tmp_path / "own" / split / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.eye(28, k=number, dtype=np.uint8)
        cv2.imwrite(str(path), 255 * picture if number != 5 else np.zeros((2, 900)))
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    run = Script(
        "train.py", "-e", 1, *paths, "-d", path.parents[2], stderr=os.ttyname(theirs)
    ).finish()
    os.write(theirs, b"the end")
    shown = os.read(ours, 1_000_000).decode()
    os.close(theirs)
    os.close(ours)
    assert run.returncode == 0
    assert re.search(r"reading: .*/12 ", shown) and re.search(r"training: .*/1 ", shown)
    assert "training:" not in run.stdout
    # a bar that is done is removed: the line is overwritten
    assert re.search(r"\r *\r", shown)
    assert re.findall(r"(.)\[WARNING\]", shown, re.S), shown
    assert set(re.findall(r"(.)\[WARNING\]", shown, re.S)) <= {"\r", "\n"}


def test_real_kmnist_images(real_trained, tmp_path, call_main):
    report = real_trained.run.stdout
    assert "18000 training, 42000 validation, 10000 test images" in report
    accuracy = re.search(r"^ +accuracy +([\d.]+) +10000$", report, re.M)[1]
    # ten epochs of the tutorial, on 45,000 images, end at 95%
    assert 0.8 < float(accuracy) < 0.95

    flags = ["-m", real_trained.model, "-o", tmp_path / "o.png", "--no-display", "--mistakes"]
    run = call_main("predict.py", *flags)
    assert f"misclassified, accuracy {float(accuracy):.2%}" in run.stdout
