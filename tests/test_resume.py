"""A run that dies leaves its last finished epoch, and --resume goes on from there."""

from modules.synthetic import draw_images

import errno
import os
import random
import re
import shutil
import signal
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import Script, assert_one_line, contents
from idx import read_dataset, write_dataset

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
    text = call_main("train.py", *paths, *flags, "-e", 6).stdout
    in_one_go = contents(out)

    shutil.rmtree(out)
    script = Script("train.py", *paths, *flags, "-e", 6)
    script.wait_for("epoch 3/")
    script.send_signal(signal.SIGKILL)
    assert script.finish().returncode == -signal.SIGKILL
    run = call_main("train.py", *paths, "--resume")
    assert (run.returncode, run.stderr) == (0, "")
    done = re.search(rf"\[INFO\] resuming after epoch ([3-6])/6 of {paths[3]}\n", run.stdout)[1]
    trained = re.findall(r"\[INFO\] epoch (\d+)/6", run.stdout)
    assert trained == [str(epoch) for epoch in range(int(done) + 1, 7)]

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
def test_killed_at_random_moments(paths, tmp_path, call_main):
    """Whatever a run leaves loads, epochs never go back, and the last run goes on from it."""
    model, moments, epochs_seen = tmp_path / "out" / "m.pth", random.Random(0), [0]
    for _ in range(5):
        resume = ["--resume"] if model.exists() else []
        script = Script("train.py", *paths, "-e", 1000, *resume)
        script.wait_for("training LeNet")
        time.sleep(moments.uniform(0.1, 1))
        script.send_signal(signal.SIGKILL)
        assert script.finish().returncode == -signal.SIGKILL
        if model.exists():
            epochs_seen.append(len(torch.load(model)["history"]["val_acc"]))
    assert epochs_seen == sorted(epochs_seen)
    run = call_main("train.py", *paths, "-e", epochs_seen[-1] + 1, *["--resume"] * model.exists())
    assert run.returncode == 0, run.stderr


@needs_signals
def test_ctrl_c(paths, tmp_path):
    script = Script("train.py", *paths, "-e", 1000)
    script.wait_for("epoch 3/")
    script.send_signal(signal.SIGINT)
    run = script.finish()
    assert (run.returncode, run.stderr) == (130, "")
    assert "if an epoch is printed above, --resume continues" in run.stdout.splitlines()[-1]
    assert len(torch.load(paths[3], weights_only=True)["history"]["val_acc"]) >= 3
    assert contents(tmp_path / "out").keys() == {"m.pth", "p.png"}


OTHER_SETTINGS = [
    ("--lr 0.01", "0.001"), ("--batch-size 32", "64"), ("--seed 1", "42"),
    ("--val-split 0.2", "0.25"), ("--dataset synthetic", "kmnist"), ("--augment", "False"),
    ("--amp", "False"),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "kept"), OTHER_SETTINGS)
def test_resuming_with_another_setting(flag, kept, resumable, call_main):
    before = resumable[4].read_bytes()
    run = call_main("train.py", *resumable, *flag.split())
    assert_one_line(run, 2, f"leave {flag.split()[0]} or --resume out", kept)
    assert resumable[4].read_bytes() == before


def test_resuming_with_the_same_settings_named(resumable, call_main):
    same = ["--lr", "1e-3", "--batch-size", 64, "--dataset", "auto", "--epochs", 5]
    run = call_main("train.py", *resumable, *same)
    assert (run.returncode, run.stderr) == (0, "")
    assert "resuming after epoch 5/5" in run.stdout
    assert "nothing to train" in run.stdout
    assert "trained in" not in run.stdout


def test_resuming_a_schedule_with_another_number_of_epochs(paths, call_main):
    assert call_main("train.py", *paths, "-e", 1, "--augment").returncode == 0
    run = call_main("train.py", *paths, "-e", 2, "--resume")
    assert_one_line(run, 2, "--epochs")


def test_resuming_where_the_data_has_moved(data, paths, tmp_path, monkeypatch, call_main):
    """Other data, as in the default folder, never takes the place of that which is gone."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "one")
    shutil.copytree(data, tmp_path / "data")
    outputs = paths[2:]
    assert call_main("train.py", "-d", "one", *outputs, "-e", 1).returncode == 0
    (tmp_path / "one").rename("two")
    before = contents(tmp_path / "out")
    for command in (["train.py", "--resume", *outputs, "-e", 2], ["predict.py", *outputs[:2]]):
        run = call_main(*command)
        assert_one_line(run, 1, "there is no dataset folder", tmp_path / "one", "--data")
    assert contents(tmp_path / "out") == before
    run = call_main("train.py", "--resume", *outputs, "-e", 2, "-d", "two")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"images from {Path('two', 'KMNIST', 'raw')}" in run.stdout
    assert call_main("predict.py", *outputs[:2], "-d", "two", "--no-display").returncode == 0


@pytest.mark.parametrize("what", ["images", "labels"])
def test_resuming_with_other_images(what, data, resumable, tmp_path, call_main):
    """As many as before, but not the same."""
    images, labels = read_dataset(data, "train")
    images, labels = (images[::-1], labels) if what == "images" else (images, labels[::-1])
    write_dataset(tmp_path / "other", train=(images, labels), t10k=draw_images(50, seed=3))
    run = call_main("train.py", *resumable, "-e", 6, "-d", tmp_path / "other")
    assert_one_line(run, 1, tmp_path / "other", resumable[4])


def test_checkpoint_of_another_version(resumable, call_main):
    model = resumable[4]
    checkpoint = torch.load(model, weights_only=True)
    del checkpoint["dataset"]
    torch.save(checkpoint, model)
    for command in (["train.py", *resumable], ["predict.py", "-m", model]):
        assert_one_line(call_main(*command), 1, model, "train again")


def test_resuming_without_a_model(paths, call_main):
    assert_one_line(call_main("train.py", *paths, "--resume"), 1, paths[3], "no model")


def test_resuming_from_a_bare_state_dict(resumable, call_main):
    model = resumable[4]
    torch.save(torch.load(model, weights_only=True)["model"], model)
    assert_one_line(call_main("train.py", *resumable), 1, model)


def test_file_that_another_program_holds_open(resumable, monkeypatch, call_main):
    """As a virus scanner does on Windows, for a moment or for good."""
    replace, refusals = Path.replace, []

    def refuse(path, target):
        refusals.append(target)
        if len(refusals) <= limit:
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    limit = 3
    run = call_main("train.py", *resumable, "-e", 6)
    assert (run.returncode, run.stderr, len(refusals)) == (0, "", 4)
    limit = 10**6
    assert_one_line(call_main("train.py", *resumable, "-e", 7), 1, resumable[4], "Access is denied")
    assert contents(resumable[4].parent).keys() == {"m.pth", "p.png"}


@pytest.mark.parametrize(("number", "saves"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_drive_that_cannot_sync(number, saves, resumable, monkeypatch, call_main):
    """A network drive may not know how (EINVAL); a broken disk is an error (EIO)."""

    def fsync(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    before, sizes = resumable[4].read_bytes(), []
    run = call_main("train.py", *resumable, "-e", 6)
    assert min(sizes) > 0.9 * len(before), "all of it is written before"
    if saves:
        assert (run.returncode, run.stderr) == (0, "")
    else:
        assert_one_line(run, 1, resumable[4], os.strerror(number))
        assert resumable[4].read_bytes() == before


def test_loss_that_is_not_finite(resumable, call_main):
    _, *paths = resumable
    before = paths[3].read_bytes()
    run = call_main("train.py", *paths, "--lr", 1e9)
    assert_one_line(run, 1, "epoch 1", "nan", "smaller --lr")
    assert paths[3].read_bytes() == before


def test_training_loss_alone_that_is_not_finite(resumable, monkeypatch, call_main):
    monkeypatch.setattr("train.evaluate", lambda *_: (1.0, 0.5, []))
    run = call_main("train.py", *resumable[1:], "--lr", 1e9)
    assert_one_line(run, 1, "epoch 1", "nan")


def test_model_that_is_a_symbolic_link(resumable, tmp_path, call_main):
    """The file that it points to is replaced, not the link."""
    link, model = tmp_path / "link.pth", resumable[4]
    link.symlink_to(model)
    before = model.read_bytes()
    assert call_main("train.py", *resumable, "-e", 6, "-m", link).returncode == 0
    assert link.is_symlink() and model.read_bytes() != before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit another process")
def test_full_disk(resumable, tmp_path):
    """A limit on the size of files stands for a disk that is full."""
    import resource

    model = resumable[4]
    script = Script("train.py", *resumable, "-e", 1000)
    script.wait_for("[INFO] epoch 6/")
    limit = model.stat().st_size // 2
    resource.prlimit(script.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert_one_line(script.finish(), 1, model, "File too large")
    assert "val_acc" in torch.load(model, weights_only=True)["history"], "the last one is whole"
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
