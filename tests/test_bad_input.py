"""What a user gets wrong: one clear line, the right exit status, and nothing lost."""

from modules import devices
from modules.lenet import LeNet

import argparse
import os
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import assert_one_line, contents, run_script

WRONG_FLAGS = [
    "train.py --epochs 0", "train.py --epochs ten", "train.py --batch-size -1", "train.py --lr nan",
    "train.py --lr 0", "train.py --lr inf", "train.py --lr 1", "train.py --seed 4294967296",
    "train.py --epochs 2147483648", "train.py --val-split 1", "train.py --val-split 0",
    "train.py --seed -1", "train.py --device banana", "train.py --device meta",
    "train.py --plot plot.doc", "train.py --dataset mnist", "predict.py --device cuda:99",
    "predict.py --num 0", "predict.py --output montage", "predict.py --seed -1",
    "predict.py --output .png", "train.py --plot a/.png", "train.py --model /",
    "predict.py --model a.png",
]  # fmt: skip


@pytest.mark.parametrize("command", WRONG_FLAGS)
def test_wrong_flag(command, call_main):
    script, flag, value = command.split()
    assert_one_line(call_main(script, flag, value), 2, flag, value)


@pytest.mark.parametrize("flag", ["--epochs", "--batch-size", "--seed", "--lr", "--val-split"])
def test_no_number(flag, call_main):
    kind = "a number" if flag in ("--lr", "--val-split") else "a whole number"
    assert_one_line(call_main("train.py", flag, "ten"), 2, flag, f"ten is not {kind}")


def test_flags_that_contradict_each_other(trained, call_main):
    torch.save(torch.load(trained.model) | {"dataset": "synthetic"}, "m.pth")
    run = call_main("train.py", "--dataset", "synthetic", "--data", "mine")
    assert_one_line(run, 2, "--dataset synthetic", "--data")
    run = call_main("train.py", "-m", "m.pth", "--resume", "--data", "mine")
    assert_one_line(run, 2, "m.pth was trained on synthetic Hiragana: leave --data out")
    assert_one_line(call_main("train.py", "--data", ""), 2, "empty")


def test_what_a_gpu_says(monkeypatch):
    """All of it, in one line."""

    def ones(_, device):
        raise RuntimeError(f"no {device} here.\nAnd more")

    monkeypatch.setattr("torch.ones", ones)
    expected = r"cuda:7 does not work here \(no cuda:7 here. And more\): try --device cpu"
    with pytest.raises(argparse.ArgumentTypeError, match=expected):
        devices.choose("cuda:7")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_auto_goes_on_without_a_gpu_that_does_not_work(monkeypatch, paths, call_main):
    """A GPU that is not there stands for one that is too old."""
    # PyTorch itself asks again, later
    answers = iter([torch.device("cuda")])
    monkeypatch.setattr(
        "torch.accelerator.current_accelerator", lambda *_, **__: next(answers, None)
    )
    for flags in (["-e", 1], ["-e", 2, "--resume"]):
        answers = iter([torch.device("cuda")])
        run = call_main("train.py", *paths, *flags)
        assert "training LeNet on cpu" in run.stdout
        (line,) = run.stderr.splitlines()
        assert line.startswith("[WARNING] using the CPU, because cuda does not work here")


def test_no_image_left_to_validate_on(paths):
    """PyTorch's own warning of it would be a second line."""
    assert_one_line(run_script("train.py", *paths, "--val-split", 1e-5), 1, "--val-split")


@pytest.mark.parametrize("command", ["train.py -m", "train.py -p", "predict.py -o"])
def test_file_that_is_a_folder(command, tmp_path, monkeypatch, call_main):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    # no shell has replaced the ~ in --model=~/folder
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for path in (folder, "~/folder.png"):
        assert_one_line(call_main(*command.split(), path), 2, path, "is a folder")
    # nor can it be in what is no folder
    Path("file").touch()
    Path("link").symlink_to("nowhere")
    for path in ("file/a.png", "link/b/a.png"):
        path = path.replace(".png", ".pth") if "-m" in command else path
        assert_one_line(call_main(*command.split(), path), 2, f"{path[:4]} is not a folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other devices")
def test_model_that_is_a_device(call_main):
    assert_one_line(call_main("train.py", "-m", "/dev/null"), 2, "/dev/null is a device")


def test_montage_that_would_replace_a_picture(trained, tmp_path, call_main):
    Path("a.png").touch()
    Path("link.png").symlink_to("a.png")
    for output in (tmp_path / "a.png", Path("link.png"), Path("..", tmp_path.name, "a.png")):
        run = call_main("predict.py", "-m", trained.model, "-i", "a.png", "-o", output)
        assert_one_line(run, 1, output, "one of your pictures")


def test_symbolic_links_in_a_circle(trained, tmp_path, call_main):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for flags in (["-m", loop], ["-m", trained.model, "-i", loop]):
        assert_one_line(call_main("predict.py", *flags), 1, loop)


def test_what_is_not_there(data, paths, tmp_path, call_main):
    """A model that is not trained yet, and a file in the place of the folder of the data."""
    assert_one_line(call_main("predict.py", "-d", data), 1, Path("output/model.pth"), "train.py")
    (tmp_path / "file").touch()
    assert_one_line(call_main("train.py", *paths, "-d", tmp_path / "file"), 1, tmp_path / "file")


def test_error_of_the_system_without_a_file(monkeypatch, paths, call_main):
    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("train.load_dataset", fail)
    assert call_main("train.py", *paths).stderr.endswith("[ERROR] Input/output error\n")


def test_ending_in_capitals(paths, call_main):
    plot = paths[5].with_suffix(".PNG")
    assert call_main("train.py", *paths[:4], "-p", plot, "-e", 1).returncode == 0
    assert plot.exists()


OUT_OF_MEMORY = [
    MemoryError("Unable to allocate 9 GiB, as NumPy says"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


@pytest.mark.parametrize("error", [*OUT_OF_MEMORY, RuntimeError("CUDA error: illegal access")])
def test_out_of_memory(error, monkeypatch, paths, call_main):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("train.load_dataset", fail)
    if error in OUT_OF_MEMORY:
        assert_one_line(call_main("train.py", *paths), 1, "out of memory", "--batch-size")
    else:
        with pytest.raises(RuntimeError, match="illegal access"):
            call_main("train.py", *paths)


class Code:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path("proof"),)


def saved(value):
    """Return what torch.save() makes of a value."""
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def flipped(good, share):
    position = int(share * len(good))
    return good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]


WRONG_MODELS = {
    "empty": lambda good: b"",
    "cut": lambda good: good[:-1],
    "flipped in the directory": lambda good: flipped(good, 1 - 60 / len(good)),
    "code": lambda good: saved(torch.load(BytesIO(good)) | {"extra": Code()}),
    "a whole pickled network": lambda good: saved(LeNet(numChannels=1, classes=10)),
    "another network": lambda good: saved(torch.nn.Linear(3, 4).state_dict()),
    "a LeNet for colour": lambda good: saved(LeNet(numChannels=3, classes=10).state_dict()),
    "a list": lambda good: saved([1, 2, 3]),
    "names that are numbers": lambda good: saved({0: torch.zeros(3)}),
}


@pytest.mark.parametrize("name", WRONG_MODELS)
def test_file_that_is_no_checkpoint(name, trained, data, tmp_path, call_main):
    model = tmp_path / "model.pth"
    content = WRONG_MODELS[name](trained.model.read_bytes())
    model.write_bytes(content)
    assert_one_line(call_main("predict.py", "-d", data, "-m", model), 1, model, "train again")
    assert contents(tmp_path) == {"model.pth": content}, "and no code was run"


def test_code_would_run_without_care(tmp_path):
    torch.load(BytesIO(saved(Code())), weights_only=False)
    assert contents(tmp_path) == {"proof": b""}
