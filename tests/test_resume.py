"""A run that dies leaves its last finished epoch, and --resume goes on from there."""

import os
import random
import shutil
import signal
import time
from io import BytesIO

import pytest
import torch
from conftest import Script
from conftest import assert_one_line
from conftest import contents
from conftest import run_process

needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")


@pytest.fixture
def resumable(trained, data, tmp_path):
    """Give the flags that go on from a copy of the trained model."""
    model = shutil.copy(trained.model, tmp_path / "m.pth")
    return ["--resume", "-d", data, "-m", model, "-p", tmp_path / "p.png"]


def assert_equal(ours, theirs):
    """Compare two checkpoints bit for bit."""
    assert ours.keys() == theirs.keys()
    for part in ("model", "optimizer", "random_state", "history"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert ours["scheduler"] == theirs["scheduler"]


@needs_signals
@pytest.mark.parametrize("flags", [[], ["--augment"]], ids=["plain", "augment"])
def test_killed_and_resumed_equals_one_go_bit_for_bit(flags, paths, tmp_path, call_main):
    out = tmp_path / "out"
    text = call_main("train.py", *paths, *flags, "-e", 10).stdout
    in_one_go = contents(out)

    shutil.rmtree(out)
    script = Script("train.py", *paths, *flags, "-e", 10)
    script.wait_for("epoch 5/")
    script.send_signal(signal.SIGKILL)
    assert script.finish().returncode == -signal.SIGKILL
    run = call_main("train.py", *paths, "--resume")
    assert (run.returncode, run.stderr) == (0, "")
    assert "epoch 10/10" in run.stdout
    assert "epoch 4/10" not in run.stdout

    assert_equal(*(torch.load(BytesIO(f["m.pth"])) for f in (contents(out), in_one_go)))
    assert contents(out)["p.png"] == in_one_go["p.png"]
    assert run.stdout.partition("precision")[2] == text.partition("precision")[2]


def test_more_epochs_are_more_of_the_same(paths, call_main):
    for flags in (["-e", 2], ["-e", 3, "--resume"]):
        assert call_main("train.py", *paths, *flags).returncode == 0
    longer = torch.load(paths[3])
    assert call_main("train.py", *paths, "-e", 3).returncode == 0
    assert_equal(torch.load(paths[3]), longer)


@needs_signals
def test_killed_at_random_moments(paths, tmp_path):
    """Whatever a run leaves loads, and epochs never go back."""
    model = tmp_path / "out" / "m.pth"
    moments = random.Random(0)
    epochs_seen = [0]
    while epochs_seen[-1] < 20:
        resume = ["--resume"] if model.exists() else []
        script = Script("train.py", *paths, "-e", 1000, *resume)
        script.wait_for("training LeNet")
        time.sleep(moments.uniform(0.1, 1))
        script.send_signal(signal.SIGKILL)
        assert script.finish().returncode == -signal.SIGKILL
        if model.exists():
            epochs_seen.append(torch.load(model, weights_only=True)["epochs"])
    assert epochs_seen == sorted(epochs_seen)
    assert len(epochs_seen) > 3


@needs_signals
def test_ctrl_c(paths, tmp_path):
    script = Script("train.py", *paths, "-e", 1000)
    script.wait_for("epoch 3/")
    script.send_signal(signal.SIGINT)
    run = script.finish()
    assert (run.returncode, run.stderr) == (130, "")
    assert "--resume" in run.stdout.splitlines()[-1]
    assert torch.load(paths[3], weights_only=True)["epochs"] >= 2
    assert contents(tmp_path / "out").keys() == {"m.pth", "p.png"}


OTHER_SETTINGS = [
    ("--lr 0.01", "0.001"), ("--batch-size 32", "64"), ("--seed 1", "42"),
    ("--val-split 0.2", "0.25"), ("--dataset printed", "kmnist"), ("--augment", "False"),
    ("--amp", "False"), ("--data elsewhere", "data"),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "kept"), OTHER_SETTINGS)
def test_resuming_with_another_setting(flag, kept, resumable, call_main):
    before = resumable[4].read_bytes()
    run = call_main("train.py", *resumable, *flag.split())
    assert_one_line(run, 1, flag.split()[0], kept, resumable[4], "--resume")
    assert resumable[4].read_bytes() == before


def test_resuming_with_the_same_settings_named(resumable, call_main):
    same = ["--lr", "1e-3", "--batch-size", 64, "--dataset", "auto", "--epochs", 5]
    run = call_main("train.py", *resumable, *same)
    assert (run.returncode, run.stderr) == (0, "")
    assert "epoch 5/5" not in run.stdout, "that one is done"


def test_resuming_a_schedule_with_another_number_of_epochs(paths, call_main):
    assert call_main("train.py", *paths, "-e", 1, "--augment").returncode == 0
    run = call_main("train.py", *paths, "-e", 2, "--resume")
    assert_one_line(run, 1, "--epochs", paths[3])


def test_resuming_without_a_model(paths, call_main):
    assert_one_line(call_main("train.py", *paths, "--resume"), 1, paths[3], "no model")


def test_resuming_from_a_bare_state_dict(resumable, call_main):
    model = resumable[4]
    torch.save(torch.load(model, weights_only=True)["model"], model)
    assert_one_line(call_main("train.py", *resumable), 1, model)


def test_loss_that_is_not_finite(resumable, call_main):
    _, *paths = resumable
    before = paths[3].read_bytes()
    run = call_main("train.py", *paths, "--lr", 1e9)
    assert_one_line(run, 1, "epoch 1", "nan", "smaller --lr")
    assert paths[3].read_bytes() == before


def test_full_disk(resumable, tmp_path):
    """A limit on the size of files stands for a disk that is full."""
    model = resumable[4]
    before = model.read_bytes()
    limit = ["prlimit", f"--fsize={len(before) // 2}"]
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not installed")
    run = run_process("train.py", *resumable, "-e", 6, prefix=limit)
    assert_one_line(run, 1, model, "File too large")
    assert model.read_bytes() == before
    assert contents(tmp_path).keys() <= {"m.pth", "p.png"}


@needs_signals
def test_reader_of_the_lines_goes_away(paths, tmp_path):
    """As in `python train.py | head -n 1`."""
    lines = tmp_path / "lines"
    os.mkfifo(lines)
    script = Script("train.py", *paths, stdout=lines)
    with lines.open() as reader:
        reader.readline()
    run = script.finish()
    assert (run.returncode, run.stderr) == (1, "")
