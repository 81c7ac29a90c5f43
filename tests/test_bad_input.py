"""What a user gets wrong: one clear line, the right exit status, and nothing lost."""

import re
import shutil

import pytest
import torch
from conftest import NOT_ALMIGHTY
from conftest import assert_one_line
from conftest import needs_setpriv
from conftest import run_script
from forks import fork_script

from modules.lenet import LeNet


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "0"),
        ("--epochs", "ten"),
        ("--batch-size", "-1"),
        ("--batch-size", "9" * 30),
        ("--lr", "nan"),
        ("--lr", "inf"),
        ("--lr", "0"),
        ("--val-split", "1"),
        ("--val-split", "0"),
        ("--seed", "-1"),
        ("--device", "banana"),
        ("--plot", "plot.doc"),
        ("--dataset", "mnist"),
    ],
)
def test_wrong_flag_of_train(call_main, flag, value):
    assert_one_line(call_main("train.py", flag, value), 2, flag, value)


@pytest.mark.parametrize(("flag", "value"), [("--num", "0"), ("--output", "montage")])
def test_wrong_flag_of_predict(call_main, flag, value):
    assert_one_line(call_main("predict.py", flag, value), 2, flag, value)


def test_wrong_flag_as_a_process():
    assert_one_line(run_script("predict.py", "--seed", "x"), 2, "--seed", "x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_cuda_where_there_is_none(call_main, script):
    assert_one_line(call_main(script, "--device", "cuda"), 1, "cuda", "--device cpu")


def test_data_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    run = fork_script("train.py", "-d", tmp_path / "file")
    assert_one_line(run, 1, tmp_path / "file", "--data")


@needs_setpriv
def test_unreadable_data_folder(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    for path in copy.rglob("*-ubyte"):
        path.chmod(0)
    run = run_script("train.py", "-d", copy, prefix=NOT_ALMIGHTY)
    assert_one_line(run, 1, copy, "Permission denied")


def test_no_image_left_to_validate_on(call_main, data):
    run = call_main("train.py", "-d", data, "--val-split", 1e-5)
    assert_one_line(run, 1, "1200", "--val-split")


@pytest.mark.parametrize(
    ("script", "flag"), [("train.py", "-m"), ("train.py", "-p"), ("predict.py", "-o")]
)
def test_output_that_is_a_folder(call_main, script, flag, data, trained, tmp_path):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    # the last -m holds; predict.py looks at its model first
    run = call_main(script, "-d", data, "-m", trained.model, flag, folder)
    assert_one_line(run, 1, folder, "not a file")
    assert "epoch" not in run.stdout


def test_two_results_in_one_file(call_main, data, tmp_path):
    same = tmp_path / "same.png"
    run = call_main("train.py", "-d", data, "-m", same, "-p", tmp_path / "." / "same.png")
    assert_one_line(run, 1, same, "a file for each")
    assert not same.exists()


def test_output_below_a_file(call_main, data, tmp_path):
    (tmp_path / "file").touch()
    run = call_main("train.py", "-d", data, "-m", tmp_path / "file" / "model.pth")
    assert_one_line(run, 1, tmp_path / "file" / "model.pth")
    assert "epoch" not in run.stdout


@needs_setpriv
@pytest.mark.parametrize("flag", ["-m", "-p"])
def test_read_only_output_folder_is_found_before_training(flag, data, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    arguments = {"-m": tmp_path / "m.pth", "-p": tmp_path / "p.png", flag: folder / "x.png"}
    words = [word for pair in arguments.items() for word in pair]
    run = run_script("train.py", "-d", data, *words, prefix=NOT_ALMIGHTY)
    assert_one_line(run, 1, folder / "x.png", "Permission denied")
    assert "epoch" not in run.stdout


def test_predict_before_training(data, tmp_path):
    run = fork_script("predict.py", "-d", data, "-m", tmp_path / "model.pth")
    assert_one_line(run, 1, tmp_path / "model.pth", "run train.py first")


def test_model_path_is_a_folder(call_main, data, tmp_path):
    assert_one_line(call_main("predict.py", "-d", data, "-m", tmp_path), 1, tmp_path, "-m")


def wrong_models():
    """Return things that a model file should not hold, by name."""
    return {
        "a whole pickled network": LeNet(numChannels=1, classes=10),
        "another network": torch.nn.Linear(3, 4).state_dict(),
        "a LeNet for colour": LeNet(numChannels=3, classes=10).state_dict(),
        "a list": [1, 2, 3],
    }


@pytest.mark.parametrize("name", wrong_models())
def test_file_with_something_else_than_a_model(call_main, name, data, tmp_path):
    model = tmp_path / "model.pth"
    torch.save(wrong_models()[name], model)
    run = call_main("predict.py", "-d", data, "-m", model, "-o", tmp_path / "o.png")
    assert_one_line(run, 1, model, "LeNet")
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("script", ["train.py", "predict.py"])
def test_help_names_every_flag_with_its_default(call_main, script):
    run = call_main(script, "--help")
    assert run.returncode == 0
    for flag in run.stdout.split("\n  -")[2:]:
        assert re.search(r"\(default:\s", flag), f"-{flag}"
