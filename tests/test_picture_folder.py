"""A folder of pictures as a dataset: any classes, sizes and formats."""

from modules.checkpoint import load_checkpoint, save_checkpoint
from modules.datasets import load_dataset
from modules.synthetic import draw_character

import re
import shutil

import numpy as np
import pytest
import torch
from conftest import assert_one_line
from idx import read_dataset
from PIL import Image

NAMES = {"cat one": "ki", "o": "su", "ねこ": "ma"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawings of three characters, of many sizes and formats, with another name each."""
    root, rng = tmp_path_factory.mktemp("own") / "pictures", np.random.default_rng(0)
    for split, number in (("train", 16), ("test", 4)):
        for name, drawn in NAMES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                side = int(rng.integers(100, 300))
                picture = np.full((side, side + 40), 230, np.uint8)
                draw_character(picture, drawn, side // 5, side // 6, side // 2, 20, side // 16)
                path = folder / f"{i:02}.{['png', 'jpg', 'webp', 'bmp'][i % 4]}"
                Image.fromarray(picture).convert(["RGB", "L"][i % 2]).save(path)
    return root


def test_train_resume_and_predict(pictures, tmp_path, monkeypatch, call_main):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    broken = root / "train" / "o" / "broken.png"
    broken.write_bytes(b"hello")
    (root / "train" / ".cache").mkdir()
    (root / "KMNIST").mkdir()
    (root / "train" / "o" / "._00.png").write_bytes(b"what a Mac leaves")
    model = ["-m", tmp_path / "m.pth"]
    training = ["train.py", *model, "-p", tmp_path / "p.png"]
    run = call_main(*training, "-d", root, "-b", 8, "-e", 6)
    assert run.returncode == 0
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"[WARNING] {broken}: ")
    sizes = "36 training, 12 validation, 12 test images"
    assert f"[INFO] 3 classes of pictures: {sizes}\n" in run.stdout
    assert re.findall(r"^ +(.*?) +[\d.]+ +[\d.]+ +[\d.]+ +4$", run.stdout, re.M) == list(NAMES)
    assert float(re.search(r"accuracy +([\d.]+) +12\n", run.stdout)[1]) > 0.9

    run = call_main(*training, "--resume", "-e", 7)
    assert run.returncode == 0 and "after epoch 6\n" in run.stdout
    # the class "o" is not the Hiragana
    monkeypatch.setattr("modules.viewer.draw_character", pytest.fail)
    predict = ["predict.py", *model, "-o", tmp_path / "o.png", "--no-display"]
    run = call_main(*predict, "-n", 12, "-d", root)
    assert (run.returncode, run.stderr) == (0, "")
    truths = re.findall(r"ground truth label: (.*), predicted", run.stdout)
    assert sorted(truths) == sorted(4 * list(NAMES))
    own = root / "test" / "ねこ" / "00.png"
    assert f"{own}: predicted label: ねこ" in call_main(*predict, "-i", own).stdout


def test_small_pictures_are_taken_as_they_are(data, tmp_path, monkeypatch, recwarn):
    """Also mostly light ones, as Fashion-MNIST has them, and where a class has no test image."""
    # Pillow warns of more pixels than this, and refuses twice as many
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    images, labels = (values[:40] for values in read_dataset(data, "train"))
    images[::3] = 255 - images[::3]
    order = np.argsort(labels, kind="stable")
    splits = {"train": order, "test": order[labels[order] > 1]}
    for split, chosen in splits.items():
        for number in chosen:
            path = tmp_path / split / f"class {labels[number]}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(images[number])
            (picture if number % 2 else picture.convert("RGB")).save(path)
    for split, chosen in splits.items():
        dataset = load_dataset("auto", tmp_path, train=split == "train")
        assert torch.equal(dataset.images, torch.tensor(images[chosen]))
        assert dataset.labels.tolist() == labels[chosen].tolist()
        assert dataset.classes == [f"class {label}" for label in range(10)]
    assert dataset.title == "10 classes of pictures"
    assert not recwarn.list


def remove(root, *names):
    for name in names:
        shutil.rmtree(root / name)


WRONG_FOLDERS = {
    "test/ (none)": lambda root: remove(root, "test"),
    "train/ (none)": lambda root: remove(root, "train"),
    "test/cow": lambda root: (root / "test" / "cow").mkdir(),
    "train/cow": lambda root: (root / "train" / "cow").mkdir(),
    "train/cat one and test/cat one": lambda root: remove(
        root, "train/o", "train/ねこ", "test/o", "test/ねこ"
    ),
}


@pytest.mark.parametrize("told", WRONG_FOLDERS)
def test_folder_that_is_not_as_expected(told, pictures, tmp_path, call_main):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    WRONG_FOLDERS[told](root)
    assert_one_line(call_main("train.py", "-d", root), 1, root, told)


def test_pictures_of_other_classes_than_the_models(pictures, trained, data, tmp_path, call_main):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    predict = ["predict.py", "-m", trained.model, "-d", root, "--no-display"]
    assert_one_line(call_main(*predict), 1, root, "other classes", "cat one", trained.model)
    # beside KMNIST, they are not what a model of KMNIST is tested on
    shutil.copytree(data / "KMNIST", root / "KMNIST")
    assert call_main(*predict).returncode == 0


def test_wide_network_is_saved_and_loaded(tmp_path):
    """A file of 64 MB is no damage."""
    wide = {"model": {"w": torch.ones(2**24)}, "classes": [], "dataset": "", "data": ""}
    save_checkpoint(tmp_path / "m.pth", wide)
    assert load_checkpoint(tmp_path / "m.pth")["model"]["w"].sum() == 2**24
