from modules import viewer

import re
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, log_probs_of, read_split, run_script, without_screen
from idx import write_dataset

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
    return ["-m", trained.model, "-o", tmp_path / "montage.png"]


@pytest.fixture(scope="module")
def predicted(trained, data, tmp_path_factory):
    montage = tmp_path_factory.mktemp("predicted") / "montage.png"
    flags = ["-d", data, "-m", trained.model, "-o", montage, "-n", 37]
    run = run_script("predict.py", *flags)
    assert run.returncode == 0, run.stderr
    return run, montage


@without_screen
def test_without_a_screen_all_is_printed_and_the_montage_named(predicted):
    run, montage = predicted
    truths, predictions, _ = label_lines(run.stdout)
    assert len(truths) == 37
    wrong = sum(truth != prediction for truth, prediction in zip(truths, predictions))
    assert f"[INFO] {wrong} of 37 test images misclassified\n" in run.stdout
    assert f"[INFO] saved {montage}" in run.stdout
    assert "no screen" in run.stdout
    assert run.stderr == ""
    assert run.stdout.isascii()
    assert [path.name for path in montage.parent.iterdir()] == ["montage.png"]


@without_screen
def test_montage_is_a_full_grid_green_where_right_and_red_where_wrong(predicted):
    run, montage = predicted
    truths, predictions, _ = label_lines(run.stdout)
    wrong = [truth != prediction for truth, prediction in zip(truths, predictions)]
    assert 0 < sum(wrong) < 37, "the small model should be right, but not always"

    picture = cv2.imread(str(montage)).astype(int)
    assert picture.shape[1] % 5 == picture.shape[0] % 8 == 0
    cards = [card for row in np.vsplit(picture, 8) for card in np.hsplit(row, 5)]
    is_red = [(card[..., 2] - card[..., 1] > 100).sum() > 50 for card in cards]
    is_green = [(card[..., 1] - card[..., 2] > 80).sum() > 50 for card in cards]
    assert is_red == wrong + [False] * 3
    assert is_green == [not is_wrong for is_wrong in wrong] + [False] * 3


def test_every_test_image_once_with_what_the_model_says_of_it(trained, data, tmp_path):
    """More images than there are gives them all, so they can be counted."""
    model = tmp_path / "bare.pth"
    # a file that is only the state dict loads too
    torch.save(torch.load(trained.model, weights_only=True)["model"], model)
    montage = tmp_path / "montage.png"
    flags = ["-d", data, "-m", model, "-o", montage, "-n", 1000, "--no-display"]
    run = run_script("predict.py", *flags)
    truths, predictions, confidences = label_lines(run.stdout)

    images, labels = read_split(data, "t10k")
    probabilities, classes = log_probs_of(trained.model, images).exp().max(dim=1)
    names = CLASSES
    expected = [(names[label], names[k]) for label, k in zip(labels, classes)]
    assert Counter(zip(truths, predictions)) == Counter(expected)
    assert sorted(confidences) == pytest.approx(sorted(100 * probabilities.numpy()), abs=0.06)


def test_seed_chooses_the_images(flags, call_main):
    def choice(seed):
        run = call_main("predict.py", "--no-display", "--seed", seed, *flags)
        assert len(label_lines(run.stdout)[0]) == 10
        return run.stdout, flags[-1].read_bytes()

    assert choice(1) == choice(1)
    assert choice(1) != choice(2)


@without_screen
def test_dead_display_ends_like_none(flags):
    run = run_script("predict.py", *flags, DISPLAY=":4242")
    assert (run.returncode, run.stderr) == (0, "")
    assert "no screen" in run.stdout
    assert flags[-1].stat().st_size > 10_000


def test_mistakes_most_confident_first(trained, flags):
    run = run_script("predict.py", *flags, "--no-display", "--mistakes", "-n", 1000)
    assert (run.returncode, run.stderr) == (0, "")
    accuracy = re.search(r"^ +accuracy +([\d.]+) +300$", trained.run.stdout, re.M).group(1)
    wrong = round(300 * (1 - float(accuracy)))
    score = f"{wrong} of 300 test images misclassified, accuracy {float(accuracy):.2%}"
    assert f"[INFO] {score}" in run.stdout.splitlines()

    truths, predictions, confidences = label_lines(run.stdout)
    assert len(truths) == wrong
    assert all(truth != prediction for truth, prediction in zip(truths, predictions))
    assert confidences == sorted(confidences, reverse=True)


def test_what_is_written_on_the_images(flags, monkeypatch, call_main):
    """The prediction and, in the second line, the true class or the second best."""
    written = []
    annotate = viewer.annotate

    def watched(image, label, lines, *rest, **more):
        written.append(lines)
        return annotate(image, label, lines, *rest, **more)

    monkeypatch.setattr(viewer, "annotate", watched)
    run = call_main("predict.py", *flags, "--no-display", "-n", 40)
    found = re.findall(r"ground truth label: (\w+), predicted label: (.*)$", run.stdout, re.M)
    expected = []
    for truth, said in found:
        first, *second = said.split(" or ")
        second = [f"or {text}" for text in second]
        expected.append([first, *(second if first.split()[0] == truth else [f"true: {truth}"])])
    assert written == expected
    assert {len(lines) for lines in written} == {1, 2}


def test_names_that_opencv_cannot_draw_appear_as_numbers():
    assert viewer.drawable(["cat", "ねこ"]) == ["cat", "class 1"]
    # a long name is written smaller, and ends within the image
    card = viewer.annotate(np.zeros((28, 28), np.uint8), "", ["the longest name of a class 98.4%"])
    assert (card[410:, -10:] == viewer.BACKGROUND).all()
    assert (card[410:, -60:-14] != viewer.BACKGROUND).any()


def test_nothing_misclassified(trained, data, flags, tmp_path, call_main):
    images, labels = read_split(data, "t10k")
    right = log_probs_of(trained.model, images).argmax(dim=1) == labels
    pixels = (255 * images[right, 0]).round().byte().numpy()
    write_dataset(tmp_path, t10k=(pixels, labels[right].numpy()))
    run = call_main("predict.py", *flags, "-d", tmp_path, "--mistakes", "--no-display")
    assert (run.returncode, run.stderr) == (0, "")
    assert "[INFO] 0 of " in run.stdout
    assert not flags[-1].exists()


def test_more_test_images_than_one_can_look_at(flags, call_main):
    run = call_main("predict.py", *flags, "--no-display", "-n", 1000)
    assert len(label_lines(run.stdout)[0]) == 300
    assert cv2.imread(str(flags[-1])).shape[:2] == (253 * 40, 210 * 5)


def test_second_class_from_ten_percent_on(flags, trained, data, call_main):
    run = call_main("predict.py", *flags, "--no-display", "-n", 1000)
    images, _ = read_split(data, "t10k")
    best = log_probs_of(trained.model, images).exp().topk(2).values[:, 1]
    seconds = [float(share) for share in re.findall(r" or \w+ ([\d.]+)%$", run.stdout, re.M)]
    assert len(seconds) == (best >= 0.1).sum()
    assert sorted(seconds) == pytest.approx(sorted(100 * best[best >= 0.1].numpy()), abs=0.06)
