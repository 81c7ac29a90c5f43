"""The scripts where learners start them: IDLE, notebooks, Windows' shell, and pipes."""

import sys
from pathlib import Path

import pytest
from conftest import ROOT, contents, run_python

from modules import cli

# IDLE's and a notebook's output: whatever has a method write()
START = """
import runpy, sys
class Window:
    written = ""
    def write(self, text):
        Window.written += text
{change}
del sys.argv[0]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    print(Window.written)
"""
CHANGES = {
    "a window": "sys.stdout = sys.stderr = Window()",
    "nothing": "sys.stdout = sys.stderr = None",
}


@pytest.mark.parametrize("where", CHANGES)
def test_output_that_is_not_a_terminals(where, data, tmp_path):
    program = START.format(change=CHANGES[where])
    model, out = tmp_path / "m.pth", tmp_path / "o.png"
    flags = ["-d", data, "-m", model, "-p", tmp_path / "p.png", "-e", 1]
    run = run_python("-c", program, "train.py", *flags)
    assert (run.returncode, run.stderr) == (0, "")
    assert ("epoch 1/1" in run.stdout) == (where == "a window")
    run = run_python("-c", program, "predict.py", "-m", model, "-o", out)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == (10 if where == "a window" else 0)
    assert contents(tmp_path).keys() == {"m.pth", "o.png", "p.png"}


def test_backend_of_a_notebook(data, tmp_path):
    """A cell `!python train.py` hands its own to the script, whose Python may not have it."""
    flags = ["-d", data, "-m", tmp_path / "m.pth", "-p", tmp_path / "p.png", "-e", 1]
    backend = "module://matplotlib_inline.backend_inline"
    run = run_python("train.py", *flags, MPLBACKEND=backend)
    assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_home_folder(data, tmp_path):
    """A shell leaves the ~ in --data=~/folder to the program, and on Windows every ~."""
    (tmp_path / "kmnist").symlink_to(data)
    flags = ["--data=~/kmnist", "--model=~/m.pth", "--plot=~/p.png", "-e", 1]
    home = {"HOME": tmp_path, "USERPROFILE": tmp_path}
    home = {name: str(path) for name, path in home.items()}
    assert run_python("train.py", *flags, **home).returncode == 0
    flags = ["--model=~/m.pth", "--output=~/o.png", "--no-display"]
    assert run_python("predict.py", *flags, **home).returncode == 0
    assert contents(tmp_path / "kmnist" / "KMNIST" / "raw")
    assert {path.name for path in tmp_path.glob("*.p*")} == {"m.pth", "o.png", "p.png"}
    assert not (ROOT / "~").exists()
    # the name of a file, not of a user
    assert cli.path("~nobody-of-this-name.png") == Path("~nobody-of-this-name.png")


def test_each_line_is_in_the_pipe_at_once(paths):
    """As in `python train.py | tee log`: the first lines are there before the first epoch ends."""
    program = "import pathlib, subprocess, sys\n"
    program += "process = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)\n"
    program += "for line in process.stdout:\n"
    program += "    if 'training LeNet' in line: break\n"
    program += "print(pathlib.Path(sys.argv[1]).exists())\n"
    program += "process.kill()\n"
    words = [paths[3], sys.executable, "train.py", *paths, "-e", 100_000]
    assert run_python("-c", program, *words).stdout == "False\n"
