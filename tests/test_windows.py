"""Real windows on a screen of our own, with real keys and a real mouse."""

import os
import re
import shutil
import subprocess
import time

import cv2
import numpy as np
import pytest
import torch
from conftest import assert_one_line
from conftest import environment
from conftest import start_script
from forks import Fork
from forks import fork_script
from Xlib import X
from Xlib.display import Display
from Xlib.protocol.event import ClientMessage

from modules.checkpoint import load_model
from modules.ink import to_kmnist


@pytest.fixture(scope="module")
def screen():
    """Start an X server, and give the way to reach it."""
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


class Person:
    """Somebody in front of the screen, where a window of predict.py opens."""

    def __init__(self, screen, title):
        self.env = environment(DISPLAY=screen)
        self.display = Display(screen)
        found = wait_for(lambda: self.xdotool("search", "--onlyvisible", "--name", f"^{title}$"))
        self.window = self.display.create_resource_object("window", int(found))
        # keys that come before it has been drawn are lost
        wait_for(lambda: self.picture().any())
        time.sleep(0.2)

    def xdotool(self, *words):
        command = ["xdotool", *map(str, words)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True).stdout.strip()

    def move(self, x, y, *and_then):
        self.xdotool("mousemove", "--window", self.window.id, x, y, *and_then)

    def press(self, key):
        # no window manager gives the window the focus here, so the pointer has to be in it
        self.move(300, 300, "key", key)

    def draw(self, *points):
        self.move(*points[0], "mousedown", 1)
        for point in points[1:]:
            self.move(*point)
            time.sleep(0.05)
        self.xdotool("mouseup", 1)

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

    def sees(self, card):
        """Return whether the window shows the picture that is the montage's card at half size."""
        picture = self.picture()
        if picture.shape != (2 * card.shape[0], 2 * card.shape[1], 3):
            return False
        return np.abs(cv2.resize(picture, card.shape[1::-1]).astype(int) - card).mean() < 2


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


@pytest.fixture
def start(screen, trained, data, tmp_path):
    """Start predict.py in a fork, and bring the person to its window."""
    forks = []

    def start(title, *flags):
        paths = ["-d", data, "-m", trained.model, "-o", tmp_path / "montage.png"]
        quiet = {"QT_LOGGING_RULES": "*.warning=false"}
        forks.append(Fork("predict.py", *paths, *flags, DISPLAY=screen, **quiet))
        return forks[-1], Person(screen, title)

    yield start
    for fork in forks:
        fork.process.kill()


def test_each_key_shows_the_next_image(screen, trained, data, tmp_path):
    montage = tmp_path / "montage.png"
    flags = ["-d", data, "-m", trained.model, "-o", montage, "-n", 3]
    process = start_script("predict.py", *flags, DISPLAY=screen)
    person = Person(screen, "Prediction")
    # the montage is there before the first window
    for number, card in enumerate(np.hsplit(cv2.imread(str(montage)), 3)):
        wait_for(lambda card=card: person.sees(card))
        time.sleep(0.3)
        assert person.sees(card), f"image {number} went away without a key"
        person.press("space")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.count("ground truth label") == 3


@pytest.mark.parametrize("way", ["q", "Escape", "the cross"])
def test_end_of_the_show(way, start):
    fork, person = start("Prediction")
    if way == "the cross":
        person.close_window()
    else:
        person.press(way)
    run = fork.finish()
    assert (run.returncode, run.stderr) == (0, "")


def test_draw(start, trained, tmp_path):
    fork, person = start("Draw", "--draw")

    def drawn():
        return re.findall(r"^\[INFO\] drawn: (.*)$", fork.out.read_text(encoding="utf-8"), re.M)

    def green():
        blue, green, red = np.moveaxis(person.picture()[:, 560:].astype(int), 2, 0)
        return ((green - blue > 60) & (green - red > 60)).sum()

    assert green() == 0
    # a horizontal stroke, and one down through it
    person.draw((150, 200), (280, 190), (410, 200))
    wait_for(lambda: len(drawn()) == 1)
    person.draw((280, 90), (290, 250), (270, 400), (200, 480))
    guesses = wait_for(lambda: drawn()[1:])[0]
    wait_for(lambda: green() > 500)

    person.press("s")
    wait_for((tmp_path / "drawing-1.png").exists)
    wait_for(lambda: f"[INFO] saved {tmp_path / 'drawing-1.png'}" in fork.out.read_text("utf-8"))
    drawing = cv2.imread(str(tmp_path / "drawing-1.png"), cv2.IMREAD_UNCHANGED)
    assert drawing.shape == (560, 560)
    assert drawing[200, 280] == drawing[400, 270] == 255
    assert drawing[20, 20] == 0
    # what was said is what the network makes of it
    model, classes, _ = load_model(trained.model)
    image = torch.tensor(to_kmnist(drawing))[None, None] / 255
    probability, label = model(image).exp().max(dim=1)
    assert re.match(rf". \({classes[label]}\) {100 * probability.item():.1f} %, ", guesses)
    assert guesses.count(" %") == 3

    person.press("c")
    wait_for(lambda: (person.picture()[:, :560] == 0).all() and green() == 0)
    person.draw((280, 100), (280, 400))
    wait_for(lambda: len(drawn()) == 3)
    person.press("s")
    wait_for((tmp_path / "drawing-2.png").exists)
    person.press("q")
    run = fork.finish()
    assert (run.returncode, run.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"drawing-1.png", "drawing-2.png"}


def test_drawing_ends_with_its_window(start):
    fork, person = start("Draw", "--draw")
    person.close_window()
    assert fork.finish().returncode == 0


def test_no_display_opens_no_window(screen, trained, data, tmp_path):
    montage = tmp_path / "montage.png"
    # a window would wait for a key, which nobody presses
    flags = ["-d", data, "-m", trained.model, "-o", montage, "--no-display"]
    run = fork_script("predict.py", *flags, DISPLAY=screen)
    assert (run.returncode, run.stderr) == (0, "")
    assert montage.exists()


@pytest.mark.parametrize("flags", [[], ["--no-display"]])
def test_draw_without_a_screen(flags, trained):
    run = fork_script("predict.py", "-m", trained.model, "--draw", *flags)
    assert_one_line(run, 1, "no screen", "--image")
