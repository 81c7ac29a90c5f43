"""The scripts where learners start them: IDLE, notebooks, Windows' shell, and pipes."""

from modules import cli

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT, contents, run_python, run_script

# IDLE's and a notebook's output is whatever has a method write()
PROGRAM = """
import runpy, sys
class Window:
    written = ""
    def write(self, text):
        Window.written += text
sys.stdout = sys.stderr = {output}
try:
    for sys.argv in {commands}:
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
finally:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    print(Window.written)
"""


@pytest.mark.parametrize("output", ["Window()", "None"])
def test_output_that_is_not_a_terminals(output, data, tmp_path):
    model, plot, montage = (str(tmp_path / name) for name in ("m.pth", "p.png", "o.png"))
    commands = [
        ["train.py", "-d", str(data), "-m", model, "-p", plot, "-e", "1"],
        ["predict.py", "-m", model, "-o", montage],
    ]
    run = run_python("-c", PROGRAM.format(output=output, commands=commands))
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("epoch 1/1") == (output != "None")
    assert run.stdout.count("ground truth label") == (10 if output != "None" else 0)
    assert contents(tmp_path).keys() == {"m.pth", "o.png", "p.png"}


def test_home_folder_and_backend_of_a_notebook(data, tmp_path):
    """A shell leaves the ~ in --data=~/folder to the program, and on Windows every ~.

    A cell `!python train.py` hands a plotting backend to the script that its Python may not have.
    """
    (tmp_path / "kmnist").symlink_to(data)
    flags = ["--data=~/kmnist", "--model=~/m.pth", "--plot=~/p.png", "-e", 1]
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    backend = "module://matplotlib_inline.backend_inline"
    run = run_python("train.py", *flags, **home, MPLBACKEND=backend)
    assert (run.returncode, run.stderr) == (0, "")
    run = run_script("predict.py", "--model=~/m.pth", "--output=~/o.png", "--no-display", **home)
    assert (run.returncode, run.stderr) == (0, "")
    assert {path.name for path in tmp_path.glob("*.p*")} == {"m.pth", "o.png", "p.png"}
    assert not (ROOT / "~").exists()
    # the name of a file, not of a user
    assert cli.path("~nobody-of-this-name.png") == Path("~nobody-of-this-name.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
@pytest.mark.parametrize("entry", ["train", "predict"])
def test_threads_that_wait_sleep_soon(entry):
    """OpenMP prints the settings that it has read when it was loaded, with torch."""
    run = run_python("-c", f"import {entry}", OMP_DISPLAY_ENV="VERBOSE")
    assert set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)) == {"2000"}


def test_how_threads_wait_is_the_users_choice():
    names = ["GOMP_SPINCOUNT", "KMP_BLOCKTIME"]
    program = f"import modules, os; print([os.environ.get(name) for name in {names}])"
    for changes, expected in [
        ({}, ["2000", "1"]),
        ({"GOMP_SPINCOUNT": "7"}, ["7", "1"]),
        ({"KMP_BLOCKTIME": "200"}, ["2000", "200"]),
        ({"OMP_WAIT_POLICY": "active"}, [None, None]),
    ]:
        assert run_python("-c", program, **changes).stdout == f"{expected}\n"


def test_backend_of_a_notebook_stays_where_the_notebook_is():
    """%run must not take the notebook's own backend away from it."""
    program = "import sys; {}; import modules, os; print(os.environ.get('MPLBACKEND'))"
    for setup, expected in [("sys.modules['ipykernel'] = sys", "agg"), ("pass", "None")]:
        run = run_python("-c", program.format(setup), MPLBACKEND="agg")
        assert run.stdout == f"{expected}\n"


def test_each_line_is_in_the_pipe_at_once(paths):
    """As in `python train.py | tee log`: the first lines are there before the first epoch ends."""
    program = "import pathlib, subprocess, sys\n"
    program += "process = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)\n"
    program += "for line in process.stdout:\n"
    program += "    if 'training LeNet' in line: break\n"
    program += "print(pathlib.Path(sys.argv[1]).exists())\n"
    program += "process.kill()\n"
    # 900 steps, which take seconds
    words = [paths[3], sys.executable, "train.py", *paths, "-e", 100_000, "-b", 1]
    assert run_python("-c", program, *words).stdout == "False\n"
