"""A run that dies leaves its last finished epoch, and --resume goes on from there."""

import os
import random
import re
import shutil
import signal
import time
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import NOT_ALMIGHTY
from conftest import assert_one_line
from conftest import needs_setpriv
from conftest import start_script
from forks import Fork
from forks import fork_script

from modules.checkpoint import load_model
from modules.checkpoint import load_training


@pytest.fixture
def paths(data, tmp_path):
    """Give the flags that say where everything is; results go to tmp_path / "out"."""
    (tmp_path / "out").mkdir()
    return ["-d", data, "-m", tmp_path / "out" / "m.pth", "-p", tmp_path / "out" / "p.png"]


def wait_for_epoch(fork, epoch):
    deadline = time.monotonic() + 60
    while f"epoch {epoch}/" not in fork.out.read_text():
        assert fork.process.is_alive(), fork.err.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_equal(ours, theirs):
    """Compare what two model files hold, bit for bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


def report(out):
    return out[out.index("precision") :]


@pytest.mark.parametrize("flags", [[], ["--augment"]], ids=["plain", "augment"])
def test_killed_and_resumed_equals_one_go_bit_for_bit(flags, paths, tmp_path):
    out = tmp_path / "out"
    assert fork_script("train.py", *paths, *flags, "-e", 10).returncode == 0
    in_one_go = contents(out)
    # a run that is done only says so, and reports again
    text = fork_script("train.py", *paths, "--resume").stdout
    assert "10 epochs are done already" in text

    shutil.rmtree(out)
    fork = Fork("train.py", *paths, *flags, "-e", 10)
    wait_for_epoch(fork, 5)
    fork.send(signal.SIGKILL)
    assert fork.finish().returncode == -signal.SIGKILL
    run = fork_script("train.py", *paths, "--resume")
    assert (run.returncode, run.stderr) == (0, "")
    assert "epoch 10/10" in run.stdout
    assert "epoch 4/10" not in run.stdout

    assert contents(out).keys() == in_one_go.keys()
    assert_equal(*(torch.load(BytesIO(f["m.pth"])) for f in (contents(out), in_one_go)))
    assert contents(out)["p.png"] == in_one_go["p.png"]
    assert report(run.stdout) == report(text)


def test_more_epochs_are_more_of_the_same(paths, tmp_path):
    for flags in (["-e", 2], ["-e", 3, "--resume"]):
        assert fork_script("train.py", *paths, *flags).returncode == 0
    longer = torch.load(paths[3])
    assert fork_script("train.py", *paths, "-e", 3).returncode == 0
    assert_equal(torch.load(paths[3]), longer)


def test_thirty_kills(paths, tmp_path):
    """At random moments, and at the steps of a save: what is there loads, and goes on."""
    model = tmp_path / "out" / "m.pth"
    moments = random.Random(0)
    kills = [None] * 20 + [(name, n) for name in ("fsync", "rename") for n in (1, 2, 3, 4, 5, 6)]
    moments.shuffle(kills)
    epochs_seen = [0]
    for kill_at in kills:
        resume = ["--resume"] if model.exists() else []
        fork = Fork("train.py", *paths, "-e", 1000, *resume, kill_at=kill_at)
        if not kill_at:
            time.sleep(moments.uniform(0.2, 0.7))
            fork.send(signal.SIGKILL)
        assert fork.finish().returncode == -signal.SIGKILL
        if model.exists():
            epochs_seen.append(load_training(model)["epochs"])
            assert load_model(model)[2] == "kmnist"
    assert epochs_seen == sorted(epochs_seen)
    assert epochs_seen[-1] >= 10, "the runs went on from one another"

    # the next run that comes to an end leaves nothing of theirs
    last = ["-e", epochs_seen[-1] + 1, "--resume"]
    assert fork_script("train.py", *paths, *last).returncode == 0
    assert contents(tmp_path / "out").keys() == {"m.pth", "p.png"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_ctrl_c_or_by_the_machine(number, paths, tmp_path):
    fork = Fork("train.py", *paths, "-e", 1000)
    wait_for_epoch(fork, 3)
    fork.send(number)
    run = fork.finish()
    assert (run.returncode, run.stderr) == (128 + number, "")
    advice = run.stdout.splitlines()[-1]
    said = int(re.search(rf"{paths[3]} holds epoch (\d+) of 1000", advice)[1])
    # a signal may arrive when an epoch has just been saved, and nobody knows yet
    assert 3 - 1 <= said <= load_training(paths[3])["epochs"] <= said + 1
    assert advice.endswith(f"train.py {' '.join(map(str, paths))} -e 1000 --resume")
    assert contents(tmp_path / "out").keys() == {"m.pth", "p.png"}


def test_stopped_before_the_first_epoch_leaves_the_old_model(trained, data, tmp_path):
    model = shutil.copy(trained.model, tmp_path / "m.pth")
    before = model.read_bytes()
    flags = ["-d", data, "-m", model, "-p", tmp_path / "p.png", "-b", 1]
    fork = Fork("train.py", *flags)
    while "training LeNet" not in fork.out.read_text():
        assert fork.process.is_alive()
    fork.send(signal.SIGINT)
    run = fork.finish()
    assert (run.returncode, run.stderr) == (130, "")
    assert f"before an epoch was finished: {model}" in run.stdout.splitlines()[-1]
    assert model.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_the_reader_of_the_lines_too(paths):
    """As a terminal does it to `train.py | tee`: nobody is left to read that it stops."""
    process = start_script("train.py", *paths, "-b", 1)
    while "training LeNet" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 130)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_ctrl_c_while_the_libraries_load(script):
    process = start_script(script, PYTHONPROFILEIMPORTTIME="1")
    while "torch" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode == 130


@pytest.fixture
def resumable(trained, data, tmp_path):
    """Give the flags that go on from a copy of the trained model."""
    model = shutil.copy(trained.model, tmp_path / "m.pth")
    return ["--resume", "-d", data, "-m", model, "-p", tmp_path / "p.png"]


@pytest.mark.parametrize(
    ("flag", *("value", "kept")),
    [
        ("--lr", ["0.01"], "0.001"),
        ("--batch-size", ["32"], "64"),
        ("--seed", ["1"], "42"),
        ("--val-split", ["0.2"], "0.25"),
        ("--dataset", ["printed"], "kmnist"),
        ("--augment", [], "False"),
        ("--amp", [], "False"),
    ],
)
def test_resuming_with_another_setting(flag, value, kept, resumable, call_main):
    before = resumable[4].read_bytes()
    run = call_main("train.py", *resumable, flag, *value)
    assert_one_line(run, 1, f"{flag} is {kept}", resumable[4], "--resume")
    assert resumable[4].read_bytes() == before


def test_resuming_with_the_same_settings_named(resumable, call_main):
    same = ["--lr", "1e-3", "--batch-size", 64, "--dataset", "auto", "--epochs", 5]
    run = call_main("train.py", *resumable, *same)
    assert (run.returncode, run.stderr) == (0, "")
    assert "5 epochs are done already" in run.stdout


def test_resuming_a_schedule_with_another_number_of_epochs(resumable, paths, call_main):
    assert call_main("train.py", *paths, "-e", 1, "--augment").returncode == 0
    run = call_main("train.py", *paths, "-e", 2, "--resume")
    assert_one_line(run, 1, "--epochs is 1", paths[3])


def test_resuming_with_other_images(resumable, call_main, tmp_path):
    """As many of them, one pixel of which is another."""
    other = shutil.copytree(resumable[2], tmp_path / "other")
    images = other / "KMNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"\x80")
    run = call_main("train.py", *resumable, "-d", other)
    assert_one_line(run, 1, resumable[4], "other images", "--data")


def test_resuming_without_a_model(paths, call_main):
    assert_one_line(call_main("train.py", *paths, "--resume"), 1, paths[3], "no model")


def test_resuming_from_a_bare_state_dict(resumable, call_main):
    model = resumable[4]
    torch.save(torch.load(model, weights_only=True)["model"], model)
    assert_one_line(call_main("train.py", *resumable), 1, model, "nothing of its training")


def test_loss_that_is_not_finite(trained, data, tmp_path, call_main):
    model = shutil.copy(trained.model, tmp_path / "m.pth")
    before = model.read_bytes()
    run = call_main("train.py", "-d", data, "-m", model, "-p", tmp_path / "p.png", "--lr", 1e9)
    assert_one_line(run, 1, "epoch 1, batch 2", "nan", "smaller --lr")
    assert model.read_bytes() == before


@pytest.mark.parametrize("name", ["model.pth", "plot.png"])
def test_full_disk(name, trained, data, tmp_path):
    """A limit on the size of files stands for a disk that is full."""
    out = shutil.copytree(trained.folder, tmp_path / "out")
    before = contents(out)
    flags = ["-d", data, "-m", out / "model.pth", "-p", out / "plot.png"]
    # a resumed run that is done draws its plot alone
    limit, resume = (1_000_000, []) if name == "model.pth" else (4000, ["--resume"])
    run = fork_script("train.py", *flags, *resume, file_size=limit)
    assert_one_line(run, 1, f"{out / name} cannot be written (File too large)")
    assert contents(out) == before


@needs_setpriv
def test_folder_becomes_read_only(paths, tmp_path):
    process = start_script("train.py", *paths, "-e", 1000, prefix=NOT_ALMIGHTY)
    while "epoch 2/" not in process.stdout.readline():
        assert process.poll() is None
    (tmp_path / "out").chmod(0o555)
    out, err = process.communicate(timeout=60)
    (tmp_path / "out").chmod(0o755)
    assert process.returncode == 1
    assert re.fullmatch(r"\[ERROR\] \S+ cannot be written \(Permission denied\): .*\n", err)
    # a leftover cannot be removed from there; the next run does that
    assert load_training(paths[3])["epochs"] >= 1
    assert fork_script("train.py", *paths, "-e", 3, "--resume").returncode == 0
    assert contents(tmp_path / "out").keys() == {"m.pth", "p.png"}


def test_folder_vanishes(paths, tmp_path):
    fork = Fork("train.py", *paths, "-e", 1000)
    wait_for_epoch(fork, 2)
    (tmp_path / "out").rename(tmp_path / "away")
    assert_one_line(fork.finish(), 1, tmp_path / "out", "cannot be written (No such file")
    assert load_training(tmp_path / "away" / "m.pth")["epochs"] >= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_lines_go_to_a_full_disk(paths):
    run = fork_script("train.py", *paths, stdout="/dev/full")
    assert_one_line(run, 1, "No space left on device")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_full_memory(paths):
    run = fork_script("train.py", *paths, "-b", 900, memory=200_000_000)
    assert_one_line(run, 1, "memory is full", "--batch-size")
