from modules import cards, own_pictures, windows
from modules.checkpoint import load_network
from modules.lenet import LeNet
from modules.messages import UserError

import re
import subprocess
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, character, log_probs_of, read_split, run_script, without_screen
from idx import write_dataset
from PIL import Image

LABEL_LINE = (
    r"^\[INFO\] ground truth label: (\w+), predicted label: (\w+) (\d+\.\d)%(?: or \w+ [\d.]+%)?$"
)


def label_lines(stdout):
    """Return the ground truths, the predictions and the confidences in %, as printed."""
    truths, predictions, confidences = zip(*re.findall(LABEL_LINE, stdout, re.M))
    return truths, predictions, [float(confidence) for confidence in confidences]


@pytest.fixture
def flags(trained, tmp_path):
    # without -d: the model knows the folder that it was trained on
    return ["-m", trained.model, "--no-display", "-o", tmp_path / "montage.png"]


@without_screen
@pytest.mark.parametrize("changes", [{}, {"DISPLAY": ":4242"}], ids=["none", "dead"])
def test_without_a_screen_all_is_printed_and_the_montage_named(changes, trained, tmp_path):
    montage = tmp_path / "new" / "montage.png"
    flags = ["-m", trained.model, "-o", montage, "-n", 37]
    run = run_script("predict.py", *flags, **changes)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"[INFO] saved {montage}\n" in run.stdout
    assert f"no screen, headless OpenCV, or QT_QPA_PLATFORM=wayland): open {montage}" in run.stdout
    assert run.stdout.isascii()
    truths, predictions, _ = label_lines(run.stdout)
    wrong = [truth != prediction for truth, prediction in zip(truths, predictions)]
    assert f"[INFO] {sum(wrong)} of 37 test images misclassified\n" in run.stdout
    assert 0 < sum(wrong) < 37, "the small model should be right, but not always"

    # the montage is a full grid, green where right and red where wrong
    picture = cv2.imread(str(montage)).astype(int)
    assert picture.shape[1] % 5 == picture.shape[0] % 8 == 0
    cards = [card for row in np.vsplit(picture, 8) for card in np.hsplit(row, 5)]
    is_red = [(card[..., 2] - card[..., 1] > 100).sum() > 50 for card in cards]
    is_green = [(card[..., 1] - card[..., 2] > 80).sum() > 50 for card in cards]
    assert is_red == wrong + [False] * 3
    assert is_green == [not is_wrong for is_wrong in wrong] + [False] * 3


def test_every_test_image_once_with_what_the_model_says_of_it(flags, trained, data, call_main):
    """More images than there are gives them all, so they can be counted."""
    # a file that is only the state dict loads too
    model = flags[-1].with_name("bare.pth")
    torch.save(torch.load(trained.model)["model"], model)
    run = call_main("predict.py", *flags, "-m", model, "-d", data, "-n", 1000)
    truths, predictions, confidences = label_lines(run.stdout)

    images, labels = read_split(data, "t10k")
    probabilities = log_probs_of(trained.model, images).exp()
    (best, second), (classes, _) = (part.T for part in probabilities.topk(2))
    expected = [(CLASSES[label], CLASSES[k]) for label, k in zip(labels, classes)]
    assert Counter(zip(truths, predictions)) == Counter(expected)
    assert sorted(confidences) == pytest.approx(sorted(100 * best.numpy()), abs=0.06)
    # the second class, from ten percent on
    printed = [float(share) for share in re.findall(r" or \w+ ([\d.]+)%$", run.stdout, re.M)]
    expected = sorted(100 * second[second >= 0.1].numpy())
    assert len(printed) == len(expected)
    assert sorted(printed) == pytest.approx(expected, abs=0.06)
    # more than one can look at
    assert "[INFO] at most 200 images are shown\n" in run.stdout
    assert cv2.imread(str(flags[-1])).shape[:2] == (253 * 40, 210 * 5)


def test_one_image(flags, call_main):
    run = call_main("predict.py", *flags, "-n", 1)
    assert (run.returncode, len(label_lines(run.stdout)[0])) == (0, 1)


def test_seed_chooses_the_images(flags, call_main):
    first, again, other = (
        call_main("predict.py", *flags, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert len(label_lines(first)[0]) == 10
    assert first == again != other


def test_mistakes_most_confident_first(trained, flags, call_main):
    run = call_main("predict.py", *flags, "--mistakes", "-n", 1000)
    accuracy = re.search(r"^ +accuracy +([\d.]+) +300$", trained.run.stdout, re.M)[1]
    wrong = round(300 * (1 - float(accuracy)))
    score = f"{wrong} of 300 test images misclassified, accuracy {float(accuracy):.2%}"
    assert f"[INFO] {score}" in run.stdout.splitlines()
    truths, predictions, confidences = label_lines(run.stdout)
    assert len(truths) == wrong
    assert all(truth != prediction for truth, prediction in zip(truths, predictions))
    assert confidences == sorted(confidences, reverse=True)
    run = call_main("predict.py", *flags, "--mistakes", "-n", 3)
    assert label_lines(run.stdout)[0] == truths[:3]


@pytest.fixture
def written(monkeypatch):
    """Collect the text and the characters that are drawn, each with its color."""
    found, put_text, draw_character = [], cv2.putText, cards.draw_character

    def watched_text(card, text, *rest):
        found.append((text, rest[3]))
        return put_text(card, text, *rest)

    def watched_character(card, name, *rest, color, **more):
        found.append((name, color))
        return draw_character(card, name, *rest, color=color, **more)

    monkeypatch.setattr(cv2, "putText", watched_text)
    monkeypatch.setattr(cards, "draw_character", watched_character)
    return found


def test_what_is_written_on_the_images(flags, written, call_main):
    """The prediction and, in the second line, the true class or the second best."""
    run = call_main("predict.py", *flags, "-n", 150)
    expected = []
    for truth, said in re.findall(r"truth label: (\w+), predicted label: (.*)$", run.stdout, re.M):
        first, *second = said.split(" or ")
        label, is_right = first.split()[0], first.split()[0] == truth
        color = (110, 230, 110) if is_right else (110, 110, 255)
        line = "".join(f"or {text}" for text in second) if is_right else f"true: {truth}"
        expected += [(text, color) for text in [first, line, label, *([] if is_right else [truth])]]
    assert written == expected
    assert "at most" not in run.stdout


@pytest.mark.parametrize("name", ["ねこ", "é", "the longest name that a class may have"])
def test_names_of_ones_own_classes(name, flags, written, tmp_path, call_main):
    """What cv2.putText() cannot draw is numbered, and explained once; a long name is smaller."""
    cv2.imwrite(str(tmp_path / "a.png"), character())
    classes = [name, *"bcdefghijk"[:9]]
    torch.save(torch.load(flags[1]) | {"classes": classes, "dataset": "pictures"}, "m.pth")
    run = call_main("predict.py", *flags, "-m", "m.pth", "-i", *3 * [tmp_path / "a.png"])
    assert run.stdout.count("predicted label") == 3
    explained = "" if name.isascii() else f"[INFO] in the picture, class 0 is {name}\n"
    assert run.stdout.partition(f"saved {flags[-1]}\n")[2] == explained
    assert written and {color for _, color in written} == {(240, 240, 240)}, "not known to be right"
    assert all(text.isascii() for text, _ in written)
    image, probabilities = np.zeros((28, 28), np.uint8), torch.tensor([0.9, *9 * [0.01]])
    card = own_pictures.annotate(image, probabilities, classes)
    assert (card[410:, -10:] == cards.BACKGROUND).all(), "it ends within the image"
    assert (card[410:, 14:80] != cards.BACKGROUND).any()


def test_network_is_in_evaluation_mode(trained):
    assert not load_network(trained.model)[0].training


def test_nothing_misclassified(trained, data, flags, tmp_path, call_main):
    images, labels = read_split(data, "t10k")
    right = log_probs_of(trained.model, images).argmax(dim=1) == labels
    pixels = (255 * images[right, 0]).round().byte().numpy()
    test_set = pixels, labels[right].numpy()
    write_dataset(tmp_path, train=test_set, t10k=test_set)
    run = call_main("predict.py", *flags, "-d", tmp_path, "--mistakes")
    assert (run.returncode, run.stderr) == (0, "")
    assert "[INFO] 0 of " in run.stdout and "nothing to show" in run.stdout
    assert not flags[-1].exists()


def test_more_pictures_than_are_shown(flags, tmp_path, monkeypatch, call_main):
    monkeypatch.setattr(cards, "MAX_CARDS", 2)
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), character())
    run = call_main("predict.py", *flags, "-i", *(tmp_path / f"{name}.png" for name in "abc"))
    assert run.stdout.count("predicted label") == 3
    assert "[INFO] at most 2 images are shown\n" in run.stdout
    # two wide cards, in each a box around the character
    picture = cv2.imread(str(flags[-1])).astype(int)
    assert picture.shape[:2] == (253, 2 * 413)
    for card in np.hsplit(picture, 2):
        assert (np.abs(card - own_pictures.MARK).max(axis=2) < 60).sum() > 100
    (tmp_path / "c.png").write_bytes(b"damaged")
    run = call_main("predict.py", *flags, "-i", *(tmp_path / f"{name}.png" for name in "abc"))
    assert run.returncode == 1
    told = "[ERROR] 1 of 3 pictures have no prediction: see above"
    assert run.stderr.splitlines()[1:] == [told]


def test_rows_of_the_montage(tmp_path, capsys):
    """At most five cards, or three wide ones; the last row is completed."""
    for number, width, size in ((7, 420, (4 * 210, 2 * 253)), (5, 826, (3 * 413, 2 * 253))):
        shown = [np.zeros((506, width, 3), np.uint8)] * number
        cards.save_montage(tmp_path / "o.png", shown, ["cat", "dog"])
        assert Image.open(tmp_path / "o.png").size == size
        assert len(shown) == number, "not what is shown in windows"
    assert capsys.readouterr().out == 2 * f"[INFO] saved {tmp_path / 'o.png'}\n"


def test_box_in_a_portrait():
    portrait = Image.new("RGB", (100, 200), "white")
    shown = own_pictures.fit_picture(portrait, (20, 50, 60, 150))
    rows, columns = np.where((shown == own_pictures.MARK).all(axis=2))
    # the picture is in the middle third, at 1.96 times its size
    expected = 98 + 1.96 * 20, 1.96 * 50, 98 + 1.96 * 60, 1.96 * 150
    found = columns.min(), rows.min(), columns.max(), rows.max()
    assert np.abs(np.subtract(found, expected)).max() <= 3


def test_screen_that_does_not_answer(monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    assert not windows.can_open()


@pytest.mark.parametrize("way", [[], ["--mistakes"], ["--image"]])
def test_model_and_images_are_on_one_device(way, flags, monkeypatch, tmp_path, call_main):
    """Where no GPU can tell: a network that takes only what has been moved to its device."""
    cv2.imwrite(str(tmp_path / "a.png"), character())
    to, forward = torch.Tensor.to, LeNet.forward

    def watched_to(tensor, *arguments, **options):
        # a copy that knows where it is
        moved = to(tensor, *arguments, **options).clone()
        moved.device_asked = arguments[0]
        return moved

    def watched_forward(model, x):
        assert x.device_asked == torch.device("cpu")
        return forward(model, x)

    monkeypatch.setattr(torch.Tensor, "to", watched_to)
    monkeypatch.setattr(LeNet, "forward", watched_forward)
    way = [*way, tmp_path / "a.png"] if way == ["--image"] else way
    assert call_main("predict.py", *flags, *way).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("way", [[], ["--mistakes"], ["--image"]])
def test_cpu_and_cuda_predict_the_same(way, flags, tmp_path, call_main):
    cv2.imwrite(str(tmp_path / "a.png"), character())
    way = [*way, tmp_path / "a.png"] if way == ["--image"] else way
    cpu, cuda = (
        call_main("predict.py", *flags, *way, "--device", device) for device in ("cpu", "cuda")
    )
    assert cuda.returncode == 0
    assert re.findall(r"label: (\w+)", cpu.stdout) == re.findall(r"label: (\w+)", cuda.stdout)


@pytest.fixture
def pad(monkeypatch):
    """A drawing pad without a window: for each step, the events of the mouse, and a key."""
    callbacks, steps, shown = [], [], []

    def look_for_key(title):
        events, key = steps.pop(0)
        for event in events:
            callbacks[-1](*event, None)
        return key

    monkeypatch.setattr(windows, "can_open", lambda: True)
    monkeypatch.setattr(windows, "window", nullcontext)
    monkeypatch.setattr(windows, "look_for_key", look_for_key)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture.copy()))
    monkeypatch.setattr(cv2, "setMouseCallback", lambda title, call: callbacks.append(call))
    return SimpleNamespace(steps=steps, shown=shown)


# of the mouse, with its left button down or up
START, LINE = (cv2.EVENT_LBUTTONDOWN, 50, 50, 1), (cv2.EVENT_MOUSEMOVE, 400, 50, 1)
EMPTY = np.zeros((506, 420, 3), np.uint8)
END, BACK = (cv2.EVENT_LBUTTONUP, 400, 50, 0), (cv2.EVENT_MOUSEMOVE, 50, 400, 0)


def test_drawing_without_a_character_changes_nothing(pad, tmp_path):
    """The window stays open."""

    def refuse(drawing):
        raise UserError("there is no character")

    pad.steps[:] = [([START, LINE, END], ""), ([], ""), ([], "q")]
    windows.draw(refuse, EMPTY, tmp_path)
    (before, _), (_, card), (drawing, after) = (np.split(part, [506], axis=1) for part in pad.shown)
    assert drawing.any() and not before.any()
    assert (card == after).all()


def test_drawings_go_beside_the_montage(flags, monkeypatch, call_main):
    folders = []
    monkeypatch.setattr(windows, "draw", lambda *arguments: folders.append(arguments[-1]))
    assert call_main("predict.py", *flags[:2], "--draw", *flags[3:]).returncode == 0
    assert folders == [flags[-1].parent / "drawings"]


def test_drawings_are_never_overwritten(pad, tmp_path):
    (tmp_path / "drawing-2.png").touch()
    pad.steps[:] = [([], "s"), ([], "s"), ([], "q")]
    windows.draw(lambda drawing: None, EMPTY, tmp_path)
    sizes = {path.name: path.stat().st_size > 0 for path in tmp_path.iterdir()}
    assert sizes == {"drawing-1.png": True, "drawing-2.png": False, "drawing-3.png": True}


def test_button_that_is_released_outside_the_window(pad, tmp_path):
    """The next movement, with no button down, draws nothing."""
    drawings = []
    pad.steps[:] = [([START, LINE], ""), ([BACK], "q")]
    windows.draw(lambda drawing: drawings.append(drawing) or EMPTY, EMPTY, tmp_path)
    (drawing,) = map(np.array, drawings)
    assert drawing[64, 200] == 255 and not drawing[200:].any()
