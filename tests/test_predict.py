import os
import re
import shutil
import subprocess
import time
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from conftest import environment
from conftest import run_script
from conftest import start_script
from forks import fork_script
from test_train import log_probs_of
from test_train import read_split
from torchvision.datasets import KMNIST
from Xlib import X
from Xlib.display import Display
from Xlib.protocol.event import ClientMessage

LABEL = r"(. \(\w+\))"
LABEL_LINE = rf"^\[INFO\] ground truth label: {LABEL}, predicted label: {LABEL} (\d+\.\d) %$"


def label_lines(stdout):
    """Return the ground truths, the predictions and the confidences in %, as printed."""
    truths, predictions, confidences = zip(*re.findall(LABEL_LINE, stdout, re.M), strict=True)
    return truths, predictions, [float(confidence) for confidence in confidences]


@pytest.fixture(scope="module")
def predicted(trained, data, tmp_path_factory):
    montage = tmp_path_factory.mktemp("predicted") / "montage.png"
    run = run_script("predict.py", "-d", data, "-m", trained.model, "-o", montage, "-n", 37)
    assert run.returncode == 0, run.stderr
    return run, montage


def test_without_a_screen_all_is_printed_and_the_montage_named(predicted):
    run, montage = predicted
    assert len(label_lines(run.stdout)[0]) == 37
    assert f"[INFO] all in one picture: {montage}\n" in run.stdout
    assert "no screen" in run.stdout
    assert run.stderr == ""
    assert [path.name for path in montage.parent.iterdir()] == ["montage.png"]


def test_montage_is_a_full_grid_green_where_right_and_red_where_wrong(predicted):
    run, montage = predicted
    truths, predictions, _ = label_lines(run.stdout)
    wrong = [truth != prediction for truth, prediction in zip(truths, predictions, strict=True)]
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
    run = fork_script("predict.py", "-d", data, "-m", model, "-o", montage, "-n", 1000)
    truths, predictions, confidences = label_lines(run.stdout)

    images, labels = read_split(data, "t10k")
    probabilities, classes = log_probs_of(trained.model, images).exp().max(dim=1)
    hiragana = "おきすつなはまやれを"
    names = [f"{kana} ({name})" for kana, name in zip(hiragana, KMNIST.classes, strict=True)]
    expected = [(names[label], names[k]) for label, k in zip(labels, classes, strict=True)]
    assert Counter(zip(truths, predictions, strict=True)) == Counter(expected)
    assert sorted(confidences) == pytest.approx(sorted(100 * probabilities.numpy()), abs=0.06)


def test_seed_chooses_the_images(trained, data, tmp_path, call_main):
    def choice(seed):
        montage = tmp_path / "montage.png"
        paths = ["-d", data, "-m", trained.model, "-o", montage]
        run = call_main("predict.py", "--no-display", "--seed", seed, *paths)
        assert len(label_lines(run.stdout)[0]) == 10
        return run.stdout, montage.read_bytes()

    assert choice(1) == choice(1)
    assert choice(1) != choice(2)


@pytest.mark.parametrize("display", ["", ":4242", "no-such-host.invalid:0"])
def test_dead_display_ends_like_none(display, trained, data, tmp_path):
    montage = tmp_path / "montage.png"
    flags = ["-d", data, "-m", trained.model, "-o", montage]
    run = fork_script("predict.py", *flags, DISPLAY=display)
    assert (run.returncode, run.stderr) == (0, "")
    assert "no screen" in run.stdout
    assert montage.stat().st_size > 10_000


def test_terminal_without_hiragana(trained, data, tmp_path):
    run = run_script(
        "predict.py", "-d", data, "-m", trained.model, "-o", tmp_path / "montage.png",
        PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(r"predicted label: \? \([a-z]+\) [\d.]+ %", run.stdout)


@pytest.fixture(scope="module")
def screen():
    """Start an X server of our own, and give the way to reach it."""
    for program in ("Xvfb", "xdotool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    ours, theirs = os.pipe()
    command = ["Xvfb", "-displayfd", str(theirs), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL) as server:
        os.close(theirs)
        with os.fdopen(ours) as numbers:
            yield f":{int(numbers.readline())}"
        server.terminate()


class Viewer:
    """predict.py with three images on the screen, and a person in front of it."""

    def __init__(self, screen, trained, data, montage):
        arguments = ["-d", data, "-m", trained.model, "-o", montage, "-n", "3"]
        self.env = environment(DISPLAY=screen)
        self.process = start_script("predict.py", *arguments, DISPLAY=screen)
        self.display = Display(screen)
        found = wait_for(lambda: self.xdotool("search", "--onlyvisible", "--name", "^Prediction$"))
        self.window = self.display.create_resource_object("window", int(found))

    def xdotool(self, *words):
        run = subprocess.run(["xdotool", *words], env=self.env, capture_output=True, text=True)
        return run.stdout.strip()

    def press(self, key):
        # no window manager gives the window the focus here, so the pointer has to be in it
        self.xdotool("mousemove", "--window", str(self.window.id), "100", "100", "key", key)

    def close_window(self):
        """Tell the window what a window manager tells it when its cross is clicked."""
        delete = self.display.intern_atom("WM_DELETE_WINDOW")
        message = ClientMessage(
            window=self.window,
            client_type=self.display.intern_atom("WM_PROTOCOLS"),
            data=(32, [delete, X.CurrentTime, 0, 0, 0]),
        )
        self.window.send_event(message)
        self.display.flush()

    def picture(self):
        """Return what the window shows, (height, width, 3) uint8 in OpenCV's order of colours."""
        size = self.window.get_geometry()
        pixels = self.window.get_image(0, 0, size.width, size.height, X.ZPixmap, 0xFFFFFFFF).data
        return np.frombuffer(pixels, np.uint8).reshape(size.height, size.width, 4)[..., :3]

    def shows(self, card):
        """Return whether the window shows the picture that is the montage's card at half size."""
        picture = self.picture()
        if picture.shape != (2 * card.shape[0], 2 * card.shape[1], 3):
            return False
        return np.abs(cv2.resize(picture, card.shape[1::-1]).astype(int) - card).mean() < 2

    def finish(self):
        """Return what was printed, on either stream, and the exit status."""
        out, err = self.process.communicate(timeout=30)
        return out, err, self.process.returncode


@pytest.fixture
def viewer(screen, trained, data, tmp_path):
    viewer = Viewer(screen, trained, data, tmp_path / "montage.png")
    yield viewer
    viewer.process.kill()
    viewer.process.communicate()
    viewer.display.close()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


def test_each_key_shows_the_next_image(viewer, tmp_path):
    # the montage is there before the first window
    cards = np.hsplit(cv2.imread(str(tmp_path / "montage.png")), 3)
    for number, card in enumerate(cards):
        wait_for(lambda card=card: viewer.shows(card))
        time.sleep(0.3)
        assert viewer.shows(card), f"image {number} went away without a key"
        viewer.press("space")
    out, err, status = viewer.finish()
    assert (err, status) == ("", 0)
    assert len(label_lines(out)[0]) == 3


def test_closing_the_window_ends_the_show(viewer):
    viewer.close_window()
    assert viewer.finish()[1:] == ("", 0)


def test_no_display_opens_no_window(screen, trained, data, tmp_path):
    montage = tmp_path / "montage.png"
    # a window would wait for a key, which nobody presses
    run = fork_script(
        "predict.py", "-d", data, "-m", trained.model, "-o", montage, "--no-display",
        DISPLAY=screen,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert montage.exists()
