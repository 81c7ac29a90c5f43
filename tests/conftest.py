"""What the tests share: the scripts as processes, a small dataset, and a model trained on it."""

from modules import cli
from modules.lenet import LeNet
from modules.strokes import draw_character
from modules.synthetic import draw_images

import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from idx import read_dataset, write_dataset

ROOT = Path(__file__).resolve().parent.parent
# where train.py puts KMNIST
REAL_KMNIST = ROOT / "data"


without_screen = pytest.mark.skipif(
    sys.platform != "linux", reason="only on Linux, tests can hide the screen"
)
needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")

# importing PyTorch takes seconds, and so does what an optimizer imports: on Linux, where this is
# safe, scripts are forked from a process that has done it
processes = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
processes.set_forkserver_preload(["train", "predict", "torch._dynamo"])
# seconds: a slow machine is no error, and a script that hangs does not stop the tests for ever
PATIENCE = 180
# nothing listens there
DEAD_PROXY = "http://127.0.0.1:9"
CLASSES = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


def skip_without_kmnist():
    if not (REAL_KMNIST / "KMNIST" / "raw").is_dir():
        pytest.skip(f"KMNIST is not in {REAL_KMNIST}: python train.py downloads it")


def read_split(data, split):
    """Return images, (N, 1, 28, 28) float32 in [0, 1], and labels as the files have them."""
    images, labels = (torch.tensor(values) for values in read_dataset(data, split))
    return images[:, None] / 255, labels.long()


def log_probs_of(model_path, images):
    checkpoint = torch.load(model_path, weights_only=True)
    model = LeNet(numChannels=1, classes=10).eval()
    model.load_state_dict(checkpoint["model"])
    with torch.no_grad():
        return model(images)


def character():
    """Return a character, (300, 300) uint8, black on white."""
    picture = np.full((300, 300), 255, np.uint8)
    draw_character(picture, "ma", x=50, y=50, size=200, color=0, width=14)
    return picture


# environment variables that change what a script does
UNSET = {
    "DISPLAY", "WAYLAND_DISPLAY", "no_proxy", "NO_PROXY", "MPLBACKEND", "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "QT_LOGGING_RULES", "QT_QPA_PLATFORM", "XDG_SESSION_TYPE",
    "PYTHONUNBUFFERED",
}  # fmt: skip


def environment(**changes):
    """Return a user's environment variables, without a screen and without a network."""
    env = {name: value for name, value in os.environ.items() if name not in UNSET}
    env |= {"http_proxy": DEAD_PROXY, "https_proxy": DEAD_PROXY}
    # the tests run in folders of their own, where Python would not find the modules
    return env | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)} | changes


running = []


def start_process(function, *arguments):
    """Call a function in a process of its own, which ends with the test at the latest."""
    process = processes.Process(target=function, args=arguments)
    process.start()
    running.append(process)
    return process


class Script:
    """train.py or predict.py under way in a process of its own, in the test's folder."""

    def __init__(self, script, *arguments, stdout=None, stderr=None, **changes):
        self.folder = tempfile.TemporaryDirectory()
        self.stdout, self.stderr = (Path(self.folder.name, name) for name in ("stdout", "stderr"))
        self.stdout.touch()
        self.stderr.touch()
        words = [script, *map(str, arguments)]
        outputs = stdout or self.stdout, stderr or self.stderr
        self.process = start_process(_run_here, words, outputs, Path.cwd(), environment(**changes))

    def read(self):
        return self.stdout.read_text(encoding="utf-8")

    def wait_for(self, text):
        """Wait until the script has printed a text."""
        deadline = time.monotonic() + PATIENCE
        is_alive = True
        while text not in self.read():
            assert is_alive and time.monotonic() < deadline
            time.sleep(0.01)
            is_alive = self.process.is_alive()

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def finish(self):
        """Return the exit status, minus a signal's number where one ended it, and both texts."""
        self.process.join(timeout=PATIENCE)
        assert self.process.exitcode is not None, "it hangs"
        stderr = self.stderr.read_text(encoding="utf-8")
        return subprocess.CompletedProcess([], self.process.exitcode, self.read(), stderr)


def _run_here(words, outputs, folder, env):
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    encoding = env["PYTHONIOENCODING"]
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding=encoding) for number in (1, 2))
    sys.__stderr__ = sys.stderr
    os.chdir(folder)
    # a shell lets programs in the background ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    # the project's own modules read the environment when they are imported
    for name in [name for name in sys.modules if name.partition(".")[0] == "modules"]:
        del sys.modules[name]
    sys.argv = words
    runpy.run_path(str(ROOT / words[0]), run_name="__main__")


def run_script(script, *arguments, **changes):
    """Run train.py or predict.py; changes: variables of its environment."""
    return Script(script, *arguments, **changes).finish()


def run_python(*words, **changes):
    """Run Python from its first line on; scripts: the project's; changes: as run_script()."""
    words = [ROOT / word if word.endswith(".py") else word for word in map(str, words)]
    return subprocess.run(
        [sys.executable, *words],
        env=environment(**changes),
        encoding="utf-8",
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )


def assert_one_line(run, status, *words):
    """The run ended with that status and said those words, in one line and no traceback."""
    assert run.returncode == status, run.stderr
    *usage, line = run.stderr.splitlines()
    assert line.startswith("[ERROR] " if status == 1 else ("train.py: error", "predict.py: error"))
    assert status == 2 or not usage, run.stderr
    for word in words:
        assert str(word) in line


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch, tmp_path):
    """Let no test reach the internet or write to the user's folders, and no process outlive it."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    for name in UNSET:
        monkeypatch.delenv(name, raising=False)
    # where a script that forgets its flags finds `data` and writes `output`
    monkeypatch.chdir(tmp_path)
    yield
    while running:
        process = running.pop()
        process.kill()
        process.join()


@pytest.fixture
def call_main(monkeypatch, capsys):
    """As run_script(), within this process, where its parts can be replaced."""

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        status = 0
        try:
            module = importlib.import_module(script.removesuffix(".py"))
            cli.run(module.main)
        except SystemExit as end:
            # Python prints a text that a program exits with, and its exit status is then 1
            status = end.code
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        return subprocess.CompletedProcess(arguments, status or 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder for --data with 1,200 images to train on and 300 to test on."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, train=draw_images(1200, seed=0), t10k=draw_images(300, seed=1))
    return root


@pytest.fixture
def paths(data, tmp_path):
    """The flags that say where everything is; results go to tmp_path / "out"."""
    out = tmp_path / "out"
    out.mkdir()
    return ["-d", data, "-m", out / "m.pth", "-p", out / "p.png"]


def train_in(folder, *flags):
    model, plot = folder / "model.pth", folder / "plot.png"
    run = run_script("train.py", *flags, "-m", model, "-p", plot)
    assert run.returncode == 0, run.stderr
    return SimpleNamespace(run=run, folder=folder, model=model, plot=plot)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """One run of train.py over five epochs: what it printed and what it saved."""
    folder = tmp_path_factory.mktemp("trained") / "made" / "by the run"
    return train_in(folder, "-d", data, "-e", 5)


@pytest.fixture(scope="session")
def real_trained(tmp_path_factory):
    """One epoch of train.py --augment on 18,000 images of KMNIST, where it is."""
    skip_without_kmnist()
    flags = ["-d", REAL_KMNIST, "-e", 1, "--augment", "--val-split", 0.7]
    return train_in(tmp_path_factory.mktemp("real"), *flags)
