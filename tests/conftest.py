"""What the tests share: the scripts as processes, a small dataset, and one model trained on it."""

import os
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from idx import idx_bytes

from modules.datasets import HIRAGANA
from modules.printed import draw_images

# root may read and write everything, unless it gives these powers up
NOT_ALMIGHTY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
needs_setpriv = pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")
ROOT = Path(__file__).resolve().parent.parent
REAL_KMNIST = ROOT.parent / "shared" / "kmnist-8k"


def environment(**changes):
    """Return a user's environment variables, without a screen and without a network."""
    dead = "http://127.0.0.1:9"
    env = os.environ | {"http_proxy": dead, "https_proxy": dead, "PYTHONIOENCODING": "utf-8"}
    # the last is set by importing modules.viewer, which a user's terminal has not done
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "no_proxy", "NO_PROXY", "QT_LOGGING_RULES"):
        env.pop(name, None)
    return env | changes


def run_script(script, *arguments, prefix=(), **changes):
    """Run train.py or predict.py as its user would.

    prefix: a command that runs the script; changes: variables of its environment.
    """
    command = [*prefix, sys.executable, ROOT / script, *arguments]
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment(**changes),
        encoding="utf-8",
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )


def start_script(script, *arguments, prefix=(), **changes):
    """Start a script as run_script() does, and return it while it runs."""
    return subprocess.Popen(
        [str(word) for word in [*prefix, sys.executable, ROOT / script, *arguments]],
        cwd=ROOT,
        env=environment(**changes),
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )


def assert_one_line(run, status, *words):
    """The run ended with that status and said those words, in one line and no traceback."""
    assert run.returncode == status, run.stderr
    *usage, line = run.stderr.splitlines()
    assert line.startswith("[ERROR] " if status == 1 else ("train.py: error", "predict.py: error"))
    assert status == 2 or not usage, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert str(word) in line


@pytest.fixture
def call_main(monkeypatch, capsys):
    """As run_script(), within this process: it saves the seconds that importing torch takes."""

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        status = 0
        try:
            main = import_module(script.removesuffix(".py")).main
            # modules.interrupt has changed what Ctrl-C does, which is ours again
            signal.signal(signal.SIGINT, signal.default_int_handler)
            main()
        except SystemExit as end:
            # Python prints a text that a program exits with, and its exit status is then 1
            status = end.code
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder for --data with 1,200 images to train on and 300 to test on."""
    root = tmp_path_factory.mktemp("data")
    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, (split, num_images) in enumerate([("train", 1200), ("t10k", 300)]):
        images, labels = draw_images("".join(HIRAGANA.values()), num_images, seed)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels.astype(np.uint8)))
    return root


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """One run of train.py over five epochs: what it printed and what it saved."""
    folder = tmp_path_factory.mktemp("trained") / "made" / "by the run"
    model, plot = folder / "model.pth", folder / "plot.png"
    run = run_script("train.py", "-d", data, "-e", 5, "-m", model, "-p", plot)
    assert run.returncode == 0, run.stderr
    return SimpleNamespace(run=run, folder=folder, model=model, plot=plot)


@pytest.fixture(scope="session")
def real_trained(tmp_path_factory):
    """One run of train.py on real images, where there are any."""
    if not REAL_KMNIST.is_dir():
        pytest.skip(f"no real KMNIST images in {REAL_KMNIST}")
    folder = tmp_path_factory.mktemp("real")
    model, plot = folder / "model.pth", folder / "plot.png"
    run = run_script("train.py", "-d", REAL_KMNIST, "-m", model, "-p", plot)
    assert run.returncode == 0, run.stderr
    return SimpleNamespace(run=run, model=model)
