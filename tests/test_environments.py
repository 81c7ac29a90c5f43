"""The scripts where learners start them: IDLE, notebooks, Windows' shell, and pipes."""

from modules import cli

import os
import re
import signal
import sys
from pathlib import Path

import cv2
import pytest
from conftest import ROOT, Script, character, contents, needs_signals, run_python, run_script


class Window:
    """The output of IDLE and of notebooks: it has a method write(), and little else."""

    written = ""

    def write(self, text):
        self.written += text


@pytest.mark.parametrize("window", [Window(), None])
def test_output_that_is_not_a_terminals(window, paths, monkeypatch, call_main):
    monkeypatch.setattr(sys, "stdout", window)
    monkeypatch.setattr(sys, "stderr", window)
    folder, model = paths[3].parent, paths[3]
    assert call_main("train.py", *paths, "-e", 1).returncode == 0
    flags = ["-m", model, "-o", folder / "o.png", "--no-display"]
    assert call_main("predict.py", *flags).returncode == 0
    assert contents(folder).keys() == {"m.pth", "o.png", "p.png"}
    if window:
        assert window.written.count("epoch 1/1") == 1
        assert window.written.count("ground truth label") == 10


def test_started_by_a_shell(data, tmp_path):
    """It leaves the ~ in --data=~/folder to the program, on Windows every ~.

    A cell `!python train.py` hands a plotting backend to the script that its Python may not have.
    Training on KMNIST needs no OpenCV. Threads that wait sleep soon: OpenMP prints the settings
    that it reads when torch is loaded.
    """
    (tmp_path / "kmnist").symlink_to(data)
    (tmp_path / "cv2.py").write_text("raise ImportError('training needs no OpenCV')")
    env = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "OMP_DISPLAY_ENV": "VERBOSE"}
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    flags = ["--data=~/kmnist", "--model=~/m.pth", "--plot=~/p.png", "-e", 1]
    without_cv2 = os.pathsep.join([str(ROOT), str(tmp_path)])
    trained = run_python("train.py", *flags, **env, **backend, PYTHONPATH=without_cv2)
    flags = ["--model=~/m.pth", "--output=~/o.png", "--no-display"]
    predicted = run_script("predict.py", *flags, **env)
    for run in (trained, predicted):
        settings = r"\s*OPENMP DISPLAY ENVIRONMENT BEGIN.*?ENVIRONMENT END\n"
        errors = re.sub(settings, "", run.stderr, flags=re.DOTALL)
        assert (run.returncode, errors.strip()) == (0, "")
    if sys.platform == "linux":
        assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", trained.stderr)) == {"2000"}
    assert {path.name for path in tmp_path.glob("*.p[nt]*")} == {"m.pth", "o.png", "p.png"}
    # the name of a file, not of a user
    assert cli.path("~nobody-of-this-name.png") == Path("~nobody-of-this-name.png")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"MPLBACKEND": "agg"}, ["2000", "1", None]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", "1", None]),
        ({"KMP_BLOCKTIME": "200"}, ["2000", "200", None]),
        ({"OMP_WAIT_POLICY": "active"}, [None, None, None]),
        # %run must not take the notebook's own backend away from it
        ({"MPLBACKEND": "agg", "notebook": "yes"}, ["2000", "1", "agg"]),
    ],
)
def test_environment_is_the_users_choice(changes, expected):
    program = "import os, sys\nif 'notebook' in os.environ: sys.modules['ipykernel'] = sys\n"
    program += "import modules; print([os.environ.get(name) for name in sys.argv[1:]])"
    names = "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MPLBACKEND", "QT_LOGGING_RULES"
    run = run_python("-c", program, *names, QT_LOGGING_RULES="own", **changes)
    assert run.stdout == f"{[*expected, 'own']}\n"


def test_importing_changes_nothing_but_the_environment():
    """Not what another program has set: hooks, filters, time-outs, threads, logging."""
    program = (
        "import logging, pkgutil, socket, sys, warnings, cv2, torch\n"
        "def state():\n"
        "    numbers = torch.get_num_threads(), cv2.getNumThreads(), socket.getdefaulttimeout()\n"
        "    return repr([logging.getLogger('PIL').handlers, numbers, sys.excepthook])\n"
        "before = state()\n"
        "import modules\n"
        "for module in pkgutil.iter_modules(modules.__path__):\n"
        "    __import__('modules.' + module.name)\n"
        "assert not [f for f in warnings.filters if f[1] and 'Length' in f[1].pattern]\n"
        "assert state() == before, (before, state())\n"
    )
    assert run_python("-c", program).stderr == ""


def test_start_does_not_wait_for_torchvision(trained, tmp_path):
    """It takes as long to import as torch, and is needed for datasets alone."""
    cv2.imwrite(str(tmp_path / "a.png"), character())
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise ImportError('not yet')")
    without = os.pathsep.join([str(tmp_path), str(ROOT)])
    flags = ["-m", trained.model, "-i", tmp_path / "a.png", "-o", tmp_path / "o.png"]
    for command in (["predict.py", *flags, "--no-display"], ["train.py", "--help"]):
        run = run_python(*command, PYTHONPATH=without)
        assert (run.returncode, run.stderr) == (0, "")


@needs_signals
def test_each_line_is_shown_at_once_until_ctrl_c(trained, tmp_path):
    """As in `python predict.py ... | tee log`: a picture that cannot be read yet holds it up."""
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    cv2.imwrite(str(first), character())
    os.mkfifo(second)
    script = Script("predict.py", "-m", trained.model, "-i", first, second)
    script.wait_for(f"{first}: predicted label: ")
    script.send_signal(signal.SIGINT)
    run = script.finish()
    assert (run.returncode, run.stderr) == (130, "")
    assert run.stdout.endswith("\n[INFO] stopped\n")
