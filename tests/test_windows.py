"""Real windows on a screen of our own, with real keys and a real mouse."""

import re
import shutil
import subprocess
import time

import cv2
import numpy as np
import pytest
from conftest import ROOT, Script, assert_one_line, environment, run_script
from pyvirtualdisplay import Display as VirtualDisplay

Xlib = pytest.importorskip("Xlib", reason="these windows need Linux")
from Xlib.display import Display  # noqa: E402
from Xlib.protocol.event import ClientMessage  # noqa: E402


@pytest.fixture(scope="module")
def screen():
    """Start an X server, and return its name for DISPLAY."""
    for program in ("Xvfb", "xdotool"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    # a server that resets when its last client leaves may turn away the next one
    options = {"manage_global_env": False, "extra_args": ["-noreset"]}
    with VirtualDisplay(visible=False, size=(1024, 768), **options) as display:
        yield display.new_display_var


class Person:
    """Somebody in front of the screen, where a window of predict.py opens."""

    def __init__(self, screen, title):
        self.env = environment(DISPLAY=screen)
        self.display = Display(screen)
        found = wait_for(lambda: self.xdotool("search", "--onlyvisible", "--name", f"^{title}$"))
        self.window = self.display.create_resource_object("window", int(found))
        # keys that come before it has been drawn are lost
        wait_for(self.is_drawn)

    def is_drawn(self):
        time.sleep(0.2)
        if not self.picture().any():
            # without a window manager, Qt now and then misses that its window is on the screen
            self.window.unmap()
            self.window.map()
            self.display.sync()
            time.sleep(0.5)
        return self.picture().any()

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
            data=(32, [delete, Xlib.X.CurrentTime, 0, 0, 0]),
        )
        self.window.send_event(message)
        self.display.flush()

    def picture(self):
        """Return what the window shows, (height, width, 3) uint8 in OpenCV's order of colours."""
        size = self.window.get_geometry()
        everything = 0, 0, size.width, size.height, Xlib.X.ZPixmap, 0xFFFFFFFF
        pixels = self.window.get_image(*everything).data
        return np.frombuffer(pixels, np.uint8).reshape(size.height, size.width, 4)[..., :3]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


@pytest.fixture
def start(screen, trained, tmp_path):
    """Start predict.py, and bring the person to its window."""

    def start(title, *flags, **changes):
        paths = ["-m", trained.model, "-o", tmp_path / "montage.png"]
        script = Script("predict.py", *paths, *flags, DISPLAY=screen, **changes)
        return script, Person(screen, title)

    return start


def test_each_key_shows_the_next_image(start, tmp_path):
    script, person = start("Prediction", "-n", 3)

    def shows(card):
        # the montage, which is there before the first window, has the cards at half their size
        picture = person.picture()
        half = cv2.resize(picture, card.shape[1::-1]).astype(int)
        return picture.shape[0] == 2 * card.shape[0] and np.abs(half - card).mean() < 2

    for card in np.hsplit(cv2.imread(str(tmp_path / "montage.png")), 3):
        wait_for(lambda card=card: shows(card))
        time.sleep(0.3)
        assert shows(card), "it went away without a key"
        person.press("space")
    run = script.finish()
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == 3


def test_keys_that_are_no_letters(start):
    """Alt-Tab and the like show no other image; an arrow is not `q`."""
    script, person = start("Prediction", "-n", 3)
    first = person.picture()
    for key in ("Shift_L", "Alt_L", "Super_L", "Control_L", "Caps_Lock", "Caps_Lock"):
        person.press(key)
    time.sleep(0.5)
    assert (person.picture() == first).all()
    person.press("Left")
    wait_for(lambda: (person.picture() != first).any())
    second = person.picture()
    person.press("Right")
    wait_for(lambda: (person.picture() != second).any())
    person.press("Q")
    assert script.finish().returncode == 0


def test_window_is_closed_before_the_program_ends(screen, trained, tmp_path):
    """In a notebook, its process goes on. On GNOME, no advice that would break it is printed."""
    program = tmp_path / "notebook.py"
    program.write_text(
        "import runpy, sys, time\n"
        f"runpy.run_path({str(ROOT / 'predict.py')!r}, run_name='__main__')\n"
        "print('ended', flush=True); time.sleep(600)"
    )
    # Qt's "Use QT_QPA_PLATFORM=wayland" ends in an abort: the wheels have no such plugin
    env = {"DISPLAY": screen, "XDG_SESSION_TYPE": "wayland", "XDG_CURRENT_DESKTOP": "GNOME"}
    script = Script(program, "-m", trained.model, **env)
    person = Person(screen, "Prediction")
    person.press("q")
    script.wait_for("ended\n")
    assert person.xdotool("search", "--onlyvisible", "--name", "^Prediction$") == ""
    assert script.stderr.read_text() == ""


@pytest.mark.parametrize("flags", [["Prediction"], ["Draw", "--draw"]])
@pytest.mark.parametrize("way", ["Escape", "the cross"])
def test_end_of_the_show(way, flags, start):
    script, person = start(*flags)
    if way == "the cross":
        person.close_window()
    else:
        # on a busy machine, a key that comes before Qt is ready is lost: a person presses it again
        wait_for(lambda: person.press(way) or not script.process.is_alive())
    assert script.finish().returncode == 0


def test_draw(start, trained, tmp_path, call_main):
    script, person = start("Draw", "--draw")

    def predicted():
        return re.findall(r"^\[INFO\] predicted label: (.*)$", script.read(), re.M)

    def card():
        return person.picture()[:, 506:].astype(int)

    empty = card()
    # these are neither `q` nor `s`
    for key in ("Left", "Right", "Insert"):
        person.press(key)
    # a horizontal stroke, and one down through it
    person.draw((150, 200), (280, 190), (410, 200))
    wait_for(lambda: len(predicted()) == 1)
    person.draw((280, 90), (290, 250), (270, 400), (200, 480))
    said = wait_for(lambda: predicted()[1:])[0]
    wait_for(lambda: (card()[14:406] > 200).sum() > 10_000)

    assert not (tmp_path / "drawings").exists()
    person.press("s")
    saved = tmp_path / "drawings" / "drawing-1.png"
    script.wait_for(f"[INFO] saved {saved}")
    before = saved.read_bytes()
    person.press("s")
    script.wait_for(f"[INFO] saved {tmp_path / 'drawings' / 'drawing-2.png'}")
    assert saved.read_bytes() == before
    drawing = cv2.imread(str(saved), cv2.IMREAD_UNCHANGED)
    # with a margin of 14 pixels
    assert drawing.shape == (534, 534)
    assert drawing[214, 294] == drawing[414, 284] == 255
    assert drawing[34, 34] == 0
    # what was said is what the network makes of the drawing
    run = call_main(
        "predict.py", "-m", trained.model, "-o", tmp_path / "o.png", "-i", saved, "--no-display"
    )
    assert f"{saved}: predicted label: {said}\n" in run.stdout

    person.press("c")
    wait_for(lambda: (person.picture()[:, :506] == 0).all() and (card() == empty).all())
    # two characters have no prediction, not even that of the first
    person.draw((60, 200), (180, 200), (60, 330), (180, 330))
    wait_for(lambda: len(predicted()) == 3 and (card() != empty).any())
    person.draw((330, 200), (450, 200), (330, 330), (450, 330))
    wait_for(lambda: (card() == empty).all())
    assert len(predicted()) == 3
    person.press("q")
    assert script.finish().returncode == 0


def test_no_display_opens_no_window(screen, trained):
    """A window would wait for a key, which nobody presses."""
    run = run_script("predict.py", "-m", trained.model, "--no-display", DISPLAY=screen)
    assert (run.returncode, run.stderr) == (0, "")


def test_draw_without_a_window(trained, monkeypatch, call_main):
    monkeypatch.setattr("modules.windows.can_open", lambda: False)
    run = call_main("predict.py", "-m", trained.model, "--draw")
    assert_one_line(run, 1, "[ERROR] no window", "--image")
    assert_one_line(call_main("predict.py", "--draw", "--no-display"), 2, "--no-display")
