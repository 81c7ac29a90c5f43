from modules import viewer
from modules.checkpoint import load_network
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


def test_what_is_written_on_the_images(flags, monkeypatch, call_main):
    """The prediction and, in the second line, the true class or the second best."""
    written, draw_card = [], viewer.draw_card

    def watched(image, label, lines, color, truth, *rest):
        written.append([label, *lines, *([truth] if truth else [])])
        return draw_card(image, label, lines, color, truth, *rest)

    monkeypatch.setattr(viewer, "draw_card", watched)
    run = call_main("predict.py", *flags, "-n", 200)
    found = re.findall(r"ground truth label: (\w+), predicted label: (.*)$", run.stdout, re.M)
    expected = []
    for truth, said in found:
        first, *second = said.split(" or ")
        label, second = first.split()[0], [f"or {text}" for text in second]
        second = second if label == truth else [f"true: {truth}", truth]
        expected.append([label, first, *second])
    assert written == expected
    assert {len(texts) for texts in written} == {2, 3, 4}
    assert "at most" not in run.stdout


def test_names_that_opencv_cannot_draw_appear_as_numbers(monkeypatch):
    written = []
    monkeypatch.setattr(viewer, "draw_card", lambda *args: written.append(args[1:5]))
    viewer.annotate(torch.zeros(1, 28, 28), torch.tensor([0.2, 0.8]), ["cat", "ねこ"], truth=0)
    assert written == [(None, ["class 1 80.0%", "true: cat"], viewer.RED, None)]
    monkeypatch.undo()
    # a long name is written smaller, and ends within the image
    card = viewer.draw_card(np.zeros((28, 28), np.uint8), "", ["the longest name of a class 98.4%"])
    assert (card[410:, -10:] == viewer.BACKGROUND).all()
    assert (card[410:, -60:-14] != viewer.BACKGROUND).any()


def test_network_is_in_evaluation_mode(trained):
    assert not load_network(trained.model)[0].training


def test_nothing_misclassified(trained, data, flags, tmp_path, call_main):
    images, labels = read_split(data, "t10k")
    right = log_probs_of(trained.model, images).argmax(dim=1) == labels
    pixels = (255 * images[right, 0]).round().byte().numpy()
    write_dataset(tmp_path, t10k=(pixels, labels[right].numpy()))
    run = call_main("predict.py", *flags, "-d", tmp_path, "--mistakes")
    assert (run.returncode, run.stderr) == (0, "")
    assert "[INFO] 0 of " in run.stdout and "nothing to show" in run.stdout
    assert not flags[-1].exists()


def test_more_pictures_than_are_shown(flags, tmp_path, monkeypatch, call_main):
    monkeypatch.setattr(viewer, "MAX_IMAGES", 2)
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), character())
    run = call_main("predict.py", *flags, "-i", *(tmp_path / f"{name}.png" for name in "abc"))
    assert run.stdout.count("predicted label") == 3
    assert "[INFO] at most 2 images are shown\n" in run.stdout
    # two wide cards, in each a box around the character
    picture = cv2.imread(str(flags[-1])).astype(int)
    assert picture.shape[:2] == (253, 2 * 413)
    for card in np.hsplit(picture, 2):
        assert (np.abs(card - viewer.MARK).max(axis=2) < 60).sum() > 100
    (tmp_path / "c.png").write_bytes(b"damaged")
    run = call_main("predict.py", *flags, "-i", *(tmp_path / f"{name}.png" for name in "abc"))
    assert run.returncode == 1 and "at most" not in run.stdout
    told = "[ERROR] 1 of 3 pictures have no prediction: see above"
    assert run.stderr.splitlines()[1:] == [told]


def test_window_shows_the_images_and_not_what_completes_a_row(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(viewer, "has_screen", lambda: True)
    monkeypatch.setattr(viewer, "show", shown.extend)
    gallery = viewer.Gallery(["cat", "dog"])
    for _ in range(7):
        gallery.add(torch.zeros(1, 28, 28), torch.tensor([0.2, 0.8]))
    gallery.save_and_show(tmp_path / "o.png")
    # two rows of four
    assert Image.open(tmp_path / "o.png").size == (4 * 210, 2 * 253)
    assert len(shown) == 7


def test_three_wide_cards_in_a_row(tmp_path):
    viewer.save_montage(tmp_path / "o.png", [np.zeros((506, 826, 3), np.uint8)] * 5)
    assert cv2.imread(str(tmp_path / "o.png")).shape[:2] == (2 * 253, 3 * 413)


def test_box_in_a_portrait():
    portrait = Image.new("RGB", (100, 200), "white")
    shown = viewer.fit_picture(portrait, (20, 50, 60, 150))
    rows, columns = np.where((shown == viewer.MARK).all(axis=2))
    # the picture is in the middle third, at 1.96 times its size
    expected = 98 + 1.96 * 20, 1.96 * 50, 98 + 1.96 * 60, 1.96 * 150
    found = columns.min(), rows.min(), columns.max(), rows.max()
    assert np.abs(np.subtract(found, expected)).max() <= 3


def test_screen_that_does_not_answer(monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    assert not viewer.has_screen()


@pytest.fixture
def pad(monkeypatch):
    """A drawing pad without a window: for each step, the events of the mouse, and a key."""
    callbacks, steps, shown = [], [], []

    def wait_for_key(title, picture):
        shown.append(picture.copy())
        events, key = steps.pop(0)
        for event in events:
            callbacks[-1](*event, None)
        return key

    monkeypatch.setattr(viewer, "has_screen", lambda: True)
    monkeypatch.setattr(viewer, "window", nullcontext)
    monkeypatch.setattr(viewer, "wait_for_key", wait_for_key)
    monkeypatch.setattr(cv2, "setMouseCallback", lambda title, call: callbacks.append(call))
    return SimpleNamespace(steps=steps, shown=shown)


# of the mouse, with its left button down or up
START, LINE = (cv2.EVENT_LBUTTONDOWN, 50, 50, 1), (cv2.EVENT_MOUSEMOVE, 400, 50, 1)
END, BACK = (cv2.EVENT_LBUTTONUP, 400, 50, 0), (cv2.EVENT_MOUSEMOVE, 50, 400, 0)


def test_drawing_without_a_character_changes_nothing(pad, tmp_path):
    """The window stays open."""

    def refuse(drawing):
        raise UserError("there is no character")

    pad.steps[:] = [([START, LINE, END], ""), ([], ""), ([], "q")]
    viewer.draw(refuse, tmp_path)
    (before, _), (_, card), (drawing, after) = (np.split(part, [506], axis=1) for part in pad.shown)
    assert drawing.any() and not before.any()
    assert (card == after).all()


def test_drawings_go_beside_the_montage(flags, monkeypatch, call_main):
    folders = []
    monkeypatch.setattr(viewer, "draw", lambda _, folder: folders.append(folder))
    assert call_main("predict.py", *flags[:2], "--draw", *flags[3:]).returncode == 0
    assert folders == [flags[-1].parent / "drawings"]


def test_drawings_are_never_overwritten(pad, tmp_path):
    (tmp_path / "drawing-2.png").touch()
    pad.steps[:] = [([], "s"), ([], "s"), ([], "q")]
    viewer.draw(lambda drawing: None, tmp_path)
    sizes = {path.name: path.stat().st_size > 0 for path in tmp_path.iterdir()}
    assert sizes == {"drawing-1.png": True, "drawing-2.png": False, "drawing-3.png": True}


def test_button_that_is_released_outside_the_window(pad, tmp_path):
    """The next movement, with no button down, draws nothing."""
    drawings = []
    pad.steps[:] = [([START, LINE], ""), ([BACK], "q")]
    viewer.draw(drawings.append, tmp_path)
    (drawing,) = map(np.array, drawings)
    assert drawing[64, 200] == 255 and not drawing[200:].any()
