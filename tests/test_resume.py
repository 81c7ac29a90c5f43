"""A run that dies leaves its last finished epoch, and --resume goes on from there."""

import train
from modules.synthetic import draw_images

import errno
import math
import os
import random
import re
import shlex
import shutil
import signal
import sys
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import Script, assert_one_line, contents, needs_signals
from idx import read_dataset, write_dataset


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


def test_stopped_and_resumed_equals_one_go_bit_for_bit(paths, monkeypatch, call_main):
    out, command = paths[3].parent, ["train.py", *paths, "--augment", "-e", 2]
    text = call_main(*command).stdout
    in_one_go = contents(out)

    shutil.rmtree(out)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # when the first epoch is saved, but not plotted: it is printed, too
        patch.setattr(train, "save_plot", stop)
        run = call_main(*command)
        assert run.returncode == 130 and "[INFO] epoch 1/2\n" in run.stdout
    run = call_main("train.py", *paths, "--resume")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"[INFO] resuming {paths[3]} after epoch 1\n" in run.stdout
    assert re.findall(r"\[INFO\] epoch (\d+)/2", run.stdout) == ["2"]

    assert_equal(*(torch.load(BytesIO(f["m.pth"])) for f in (contents(out), in_one_go)))
    assert contents(out)["p.png"] == in_one_go["p.png"]
    assert run.stdout.partition("precision")[2] == text.partition("precision")[2]
    run = call_main("train.py", *paths, "-e", 3, "--resume")
    assert_one_line(run, 2, "epochs at 2, on which the learning rates depend: leave --epochs or")


def test_more_epochs_are_more_of_the_same(paths, call_main):
    for flags in (["-e", 1], ["-e", 2, "--resume"]):
        assert call_main("train.py", *paths, *flags).returncode == 0
    longer = torch.load(paths[3])
    assert call_main("train.py", *paths, "-e", 2).returncode == 0
    assert_equal(torch.load(paths[3]), longer)


@needs_signals
def test_killed_at_random_moments(paths, call_main):
    """Whatever a run leaves loads, epochs never go back, and the last run goes on from it."""
    model, moments, epochs_seen = paths[3], random.Random(0), [0]
    for _ in range(3):
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
def test_ctrl_c(paths):
    script = Script("train.py", *paths, "-e", 1000)
    script.wait_for("epoch 2/")
    script.send_signal(signal.SIGINT)
    run = script.finish()
    assert (run.returncode, run.stderr) == (130, "")
    flags = ["-m", str(paths[3]), "-p", str(paths[5])]
    *_, stopped, how_to_go_on = run.stdout.splitlines()
    assert stopped == "[INFO] stopped"
    command = how_to_go_on.partition(": ")[2]
    assert shlex.split(command) == ["python", "train.py", "--resume", *flags]
    printed = len(re.findall(r"^\[INFO\] epoch ", run.stdout, re.M))
    assert len(torch.load(paths[3])["history"]["val_acc"]) in (printed, printed + 1)
    assert contents(paths[3].parent).keys() == {"m.pth", "p.png"}


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


def test_contradiction_beside_more_epochs(resumable, call_main):
    """More epochs are possible: it is the other flag that has to go."""
    run = call_main("train.py", *resumable, "-e", 6, "--augment")
    assert_one_line(run, 2, "--resume keeps augment at False: leave --augment or --resume out")


@pytest.mark.parametrize("epochs", [2, 5])
def test_resuming_with_the_same_settings_named(epochs, resumable, call_main):
    same = ["--lr", "1e-3", "--batch-size", 64, "--dataset", "auto", "--epochs", epochs]
    run = call_main("train.py", *resumable, *same)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"resuming {resumable[4]} after epoch 5: nothing is left to train\n" in run.stdout
    assert not re.search(r"\[INFO\] epoch", run.stdout) and "evaluating" in run.stdout


@pytest.mark.parametrize("moved", ["one", "one/KMNIST"])
def test_resuming_where_the_data_has_moved(moved, data, paths, tmp_path, call_main):
    """Training goes on with no other data than that; KMNIST to test on is in `data`, too."""
    shutil.copytree(data, "one")
    shutil.copytree(data, "data")
    resume = ["train.py", "--resume", *paths[2:], "-e", 2]
    predict = ["predict.py", *paths[2:4], "--no-display"]
    assert call_main("train.py", *paths[2:], "-d", "one", "-e", 1).returncode == 0
    shutil.copytree(moved, moved.replace("one", "two"))
    shutil.rmtree(moved)
    before = contents(tmp_path / "out")
    told = "there is no dataset folder" if moved == "one" else "could not be downloaded"
    assert_one_line(call_main(*resume), 1, told, tmp_path / "one", "choose another --data")
    run = call_main(*predict)
    assert run.returncode == 0 and f"images from {Path('data', 'KMNIST', 'raw')}" in run.stdout
    assert run.stderr.startswith(f"[WARNING] KMNIST is not in {tmp_path / 'one'}")
    assert contents(tmp_path / "out") == before
    run = call_main(*resume, "-d", "two")
    assert (run.returncode, run.stderr) == (0, "")
    assert f"images from {Path('two', 'KMNIST', 'raw')}" in run.stdout
    assert call_main(*predict, "-d", "two").returncode == 0


def test_resuming_with_other_images(data, resumable, tmp_path, call_main):
    """As many as before, but other images or labels."""
    images, labels = read_dataset(data, "train")
    for name, split in {"a": (images[::-1], labels), "b": (images, labels[::-1])}.items():
        write_dataset(tmp_path / name, train=split, t10k=draw_images(50, seed=3))
        run = call_main("train.py", *resumable, "-e", 6, "-d", tmp_path / name)
        assert_one_line(run, 1, tmp_path / name, resumable[4])


def test_resuming_with_other_names_of_the_classes(resumable, call_main):
    """The same images and labels are another dataset."""
    checkpoint = torch.load(resumable[4])
    checkpoint["classes"] = checkpoint["classes"][::-1]
    torch.save(checkpoint, resumable[4])
    run = call_main("train.py", *resumable, "-e", 6)
    assert_one_line(run, 1, "does not hold the images", resumable[4])


def test_file_of_a_gpu_is_loaded_on_the_cpu(resumable, monkeypatch, call_main):
    load, places = torch.load, []
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: places.append(k["map_location"]) or load(*a, **k)
    )
    assert call_main("train.py", *resumable).returncode == 0
    assert set(places) == {"cpu"}


def test_files_that_cannot_be_resumed(resumable, call_main):
    """None, one that lacks a part, and a bare state dict."""
    model = resumable[4]
    checkpoint = torch.load(model)
    del checkpoint["dataset"]
    torch.save(checkpoint, model)
    for command in (["train.py", *resumable], ["predict.py", "-m", model]):
        assert_one_line(call_main(*command), 1, model, "train again")
    del checkpoint["history"]
    for less in (checkpoint | {"dataset": "kmnist"}, checkpoint["model"]):
        torch.save(less, model)
        assert_one_line(call_main("train.py", *resumable), 1, model, "no training state")
    model.unlink()
    assert_one_line(call_main("train.py", *resumable), 1, model, "no model")


@pytest.mark.parametrize(("refusals", "saves"), [(3, True), (1000, False)])
def test_file_that_another_program_holds_open(refusals, saves, resumable, monkeypatch, call_main):
    """As a virus scanner does on Windows, for a moment or for good."""
    replace, slept = Path.replace, []

    def refuse(path, target):
        if len(slept) < refusals:
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return replace(path, target)

    clock = SimpleNamespace(sleep=slept.append)
    monkeypatch.setattr("modules.checkpoint.time", clock)
    monkeypatch.setattr(Path, "replace", refuse)
    run = call_main("train.py", *resumable, "-e", 6)
    if saves:
        assert (run.returncode, run.stderr) == (0, "")
    else:
        assert_one_line(run, 1, f"[ERROR] {resumable[4]}: Access is denied")
        assert 1 < sum(slept) < 5
    assert contents(resumable[4].parent).keys() <= {"m.pth", "p.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_file_is_named_as_the_user_has_named_it(paths, call_main):
    """Not as the one beside it, which is written first, and whose name may be too long."""
    for model, told in {
        Path("/proc/m.pth"): "No such file or directory",
        paths[3].with_name("m" * 248 + ".pth"): "File name too long",
    }.items():
        run = call_main("train.py", *paths, "-m", model, "-e", 1)
        assert_one_line(run, 1, f"[ERROR] {model}: {told}: check the path")


def test_drive_that_cannot_sync(resumable, monkeypatch, call_main):
    """A network drive may not know how."""
    sizes = []

    def fsync(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    run = call_main("train.py", *resumable, "-e", 6)
    assert (run.returncode, run.stderr) == (0, "")
    assert sizes == [resumable[4].stat().st_size], "all of it is written before"


def test_ctrl_c_while_the_model_is_written(paths, monkeypatch, call_main):
    def stop(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    assert call_main("train.py", *paths, "-e", 1).returncode == 130
    assert contents(paths[3].parent) == {}


@pytest.mark.parametrize(("train_loss", "val_loss"), [(math.nan, 1.0), (1.0, math.inf)])
def test_loss_that_is_not_finite(train_loss, val_loss, resumable, monkeypatch, call_main):
    _, *paths = resumable
    before = paths[3].read_bytes()
    monkeypatch.setattr(train, "train_epoch", lambda *_: (train_loss, 0.5))
    monkeypatch.setattr(train, "evaluate", lambda *_: (val_loss, 0.5, []))
    assert_one_line(call_main("train.py", *paths), 1, "epoch 1", "nan", "smaller --lr")
    assert paths[3].read_bytes() == before


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
    assert "val_acc" in torch.load(model)["history"], "the last one is whole"
    assert contents(tmp_path).keys() <= {"m.pth", "p.png"}
