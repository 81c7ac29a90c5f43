"""A folder of pictures as a dataset: any classes, sizes and formats."""

from modules.datasets import load_dataset
from modules.strokes import draw_character

import errno
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from conftest import CLASSES, assert_one_line
from idx import read_dataset
from PIL import Image, ImageDraw

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
                path = folder / f"{i:02}.{['png', 'JPG', 'webp', 'bmp'][i % 4]}"
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
    assert line.startswith(f"[WARNING] {broken} is left out: cannot identify image file")
    sizes = "36 training, 12 validation, 12 test images"
    assert f"[INFO] 3 classes of pictures: {sizes}\n" in run.stdout
    assert re.findall(r"^ +(.*?) +[\d.]+ +[\d.]+ +[\d.]+ +4$", run.stdout, re.M) == list(NAMES)
    assert float(re.search(r"accuracy +([\d.]+) +12\n", run.stdout)[1]) > 0.9

    run = call_main(*training, "--resume", "-e", 7)
    assert run.returncode == 0 and "after epoch 6\n" in run.stdout
    # the class "o" is not the Hiragana
    monkeypatch.setattr("modules.cards.draw_character", pytest.fail)
    predict = ["predict.py", *model, "-o", tmp_path / "o.png", "--no-display"]
    run = call_main(*predict, "-n", 12, "-d", root)
    assert (run.returncode, run.stderr) == (0, "")
    truths = re.findall(r"ground truth label: (.*), predicted", run.stdout)
    assert sorted(truths) == sorted(4 * list(NAMES))
    # others with another seed, from all classes
    first, again, other = (
        call_main(*predict, "-n", 6, "--seed", seed).stdout for seed in (1, 1, 2)
    )
    assert first == again != other
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
    dataset = load_dataset("auto", tmp_path)
    assert dataset.classes == [f"class {label}" for label in range(10)]
    for (found, found_labels), chosen in zip((dataset.train[:], dataset.test[:]), splits.values()):
        assert torch.equal(found[:, 0], torch.tensor(images[chosen]) / 255)
        assert found_labels.tolist() == labels[chosen].tolist()
    assert dataset.title == "10 classes of pictures"
    assert not recwarn.list


def test_small_light_pictures_are_seen_in_one_way(data, tmp_path, call_main):
    """By train.py and by --image: a class that fills its pictures is not inverted."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 24), ("test", 6)):
        for name, size in (("coat", 26), ("shoe", 8)):
            for i in range(number):
                path = tmp_path / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 12, (28, 28)).astype(np.uint8)
                pixels[1 : 1 + size, 1:27] = rng.integers(170, 240)
                Image.fromarray(pixels).save(path)
    flags = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png", "-d", tmp_path]
    assert " 1.0000        12" in call_main("train.py", *flags, "-b", 8, "-e", 6).stdout
    images = ["-i", tmp_path / "test", "-o", tmp_path / "o.png", "--no-display"]
    found = re.findall(
        r"test/(\w+)/\d.png: predicted label: (\w+)",
        call_main("predict.py", *flags[:2], *images).stdout,
    )
    assert len(found) == 12 and all(name == label for name, label in found)


def remove(root, *names):
    for name in names:
        shutil.rmtree(root / name)


def spoil(root, name):
    """Take the endings off the names of the pictures in a folder."""
    for path in (root / name).iterdir():
        path.rename(path.with_suffix(""))


WRONG_FOLDERS = {
    "holds train, but": lambda root: remove(root, "test"),
    "holds test, but": lambda root: remove(root, "train"),
    "has cow, but the classes are cat one, o, ": lambda root: (root / "test" / "cow").mkdir(),
    "no picture for training in train/cow": lambda root: (root / "train" / "cow").mkdir(),
    "holds cat one alone, but two classes are needed": lambda root: remove(
        root, "train/o", "train/ねこ", "test/o", "test/ねこ"
    ),
    "no picture for training in train/o, but": lambda root: spoil(root, "train/o"),
}


@pytest.mark.parametrize("told", WRONG_FOLDERS)
def test_folder_that_is_not_as_expected(told, pictures, tmp_path, call_main):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    WRONG_FOLDERS[told](root)
    assert_one_line(call_main("train.py", "-d", root), 1, root, told)


def test_what_is_not_read(pictures, tmp_path, capsys):
    """What computers put beside pictures; a third split; a name in two forms is one class."""
    # the folder itself may be in a hidden one
    root = shutil.copytree(pictures, tmp_path / ".hidden" / "pictures")
    for split in ("train", "test"):
        for name in (".ipynb_checkpoints", "o/.ipynb_checkpoints", "__MACOSX/o"):
            shutil.copytree(pictures / split / "o", root / split / name)
        for form in ("NFC", "NFD"):
            shutil.copytree(pictures / split / "o", root / split / normalize(form, "が"))
    shutil.copytree(root / "test", root / "valid")
    for number in range(3):
        Image.new("L", (99, 99), 200 - number).save(root / "train" / "o" / f"blank{number}.png")
    dataset = load_dataset("auto", root)
    assert dataset.classes == ["cat one", "o", "が", "ねこ"]
    assert dataset.train.tensors[1].bincount().tolist() == [16, 16, 32, 16]
    assert dataset.test.tensors[1].bincount().tolist() == [4, 4, 8, 4]
    out, err = capsys.readouterr()
    assert f"loading 83 training images from {root / 'train'} (valid is not used)...\n" in out
    reason = "nothing stands out from its background: choose another picture"
    assert err.splitlines()[-1] == f"[WARNING] 3 of 83 pictures are left out (3: {reason})"


def test_class_that_is_in_validation_alone_is_named(pictures, tmp_path, call_main):
    root = tmp_path / "few"
    for number in range(20):
        for split in ("train", "test"):
            shutil.copytree(pictures / split / "o", root / split / f"class {number}")
            for path in sorted((root / split / f"class {number}").iterdir())[2:]:
                path.unlink()
    flags = ["-d", root, "-m", tmp_path / "m.pth", "-p", tmp_path / "p.png", "-e", 1]
    (line,) = call_main("train.py", *flags).stderr.splitlines()
    validated = torch.randperm(40, generator=torch.Generator().manual_seed(42))[30:]
    classes = Counter(f"class {i}" for i in sorted(range(20), key=str) for _ in range(2)).keys()
    labels = [label // 2 for label in validated.tolist()]
    (alone,) = [list(classes)[label] for label in set(labels) if labels.count(label) == 2]
    assert line.startswith(f"[WARNING] all images of {alone} are kept for validation")
    # --resume goes on with the same images alone: none is new, and none has changed
    for name in ("new.png", "00.png"):
        path = root / "train" / "class 7" / name
        shutil.copy(pictures / "train" / "cat one" / "00.png", path)
        run = call_main("train.py", *flags, "--resume", "-e", 2)
        *_, error = run.stderr.splitlines()
        assert error.startswith(f"[ERROR] {root} does not hold the images that {flags[3]} was")
        assert run.returncode == 1 and "train again without --resume" in error
        path.unlink()


def test_model_knows_its_classes(pictures, tmp_path, call_main):
    """So that a folder with test images alone is enough, of which no more are read than shown."""
    flags = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
    assert call_main("train.py", *flags, "-d", pictures, "-e", 1).returncode == 0
    root = tmp_path / "mine"
    shutil.copytree(pictures / "test" / "o", root / "test" / "o")
    predict = ["predict.py", *flags[:2], "-o", tmp_path / "o.png", "--no-display", "-d", root]
    run = call_main(*predict, "-n", 3)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"[INFO] loading 3 test images from {root / 'test'}...\n" in run.stdout
    assert re.findall(r"ground truth label: (.*), predicted", run.stdout) == 3 * ["o"]
    assert "loading 4 test images" in call_main(*predict, "--mistakes").stdout
    # also where KMNIST lies beside them
    (root / "KMNIST" / "raw").mkdir(parents=True)
    assert call_main(*predict).returncode == 0
    shutil.rmtree(root)
    assert_one_line(call_main(*predict), 1, root, "does not exist")
    # nor is the model's own folder replaced by another
    shutil.copytree(pictures, tmp_path / "gone")
    train = ["train.py", *flags, "-d", tmp_path / "gone", "-e", 1]
    assert call_main(*train).returncode == 0
    shutil.rmtree(tmp_path / "gone")
    assert_one_line(call_main(*predict[:-2]), 1, tmp_path / "gone", "does not exist", "--data")


def test_pictures_of_other_classes_than_the_models(pictures, trained, data, tmp_path, call_main):
    root = shutil.copytree(pictures, tmp_path / "pictures")
    predict = ["predict.py", "-m", trained.model, "-d", root, "--no-display"]
    assert_one_line(call_main(*predict), 1, root, "has cat one, ねこ", "o, ki, su, tsu", "--data")
    # beside KMNIST, they are not what a model of KMNIST is tested on
    shutil.copytree(data / "KMNIST", root / "KMNIST")
    assert call_main(*predict).returncode == 0
    # nor is KMNIST for a model of as many other classes
    own = {"dataset": "pictures", "classes": list("abcdefghij")}
    torch.save(torch.load(trained.model) | own, "own.pth")
    run = call_main("predict.py", "-m", "own.pth", "-d", data, "--no-display")
    assert_one_line(run, 1, data, "has other classes")


def test_resume_with_another_dataset(pictures, trained, tmp_path, call_main):
    """What --data holds is found out first: KMNIST is not downloaded to a folder of pictures."""
    model = shutil.copy(trained.model, tmp_path / "m.pth")
    flags = ["--resume", "-m", model, "-e", 6, "-p", tmp_path / "p.png", "-d", pictures]
    run = call_main("train.py", *flags)
    assert_one_line(run, 1, "not trained on what", pictures, "pictures", "without --resume")
    assert not (pictures / "KMNIST").exists() and "downloading" not in run.stdout


def test_pictures_below_a_class_and_in_both_sets(pictures, tmp_path, call_main):
    """Train and test on the wrong thing, and a result that is too good: each gets a warning."""
    root = shutil.copytree(pictures, tmp_path / "own")
    (root / "train" / "o" / "a").mkdir()
    (root / "train" / "o" / "00.png").rename(root / "train" / "o" / "a" / "00.png")
    for name in ("00.png", "01.JPG"):
        shutil.copy(root / "train" / "ねこ" / name, root / "test" / "ねこ" / f"copy {name}")
    flags = ["-d", root, "-m", tmp_path / "m.pth", "-p", tmp_path / "p.png", "-e", 1]
    nested, leak = call_main("train.py", *flags).stderr.splitlines()
    where = Path("o", "a")
    assert nested == f"[WARNING] 1 pictures are in subfolders: those in {where} are of the class o"
    assert leak.startswith("[WARNING] 2 of 14 test pictures are training pictures, too")


def test_as_many_test_images_as_asked_for(pictures, tmp_path, call_main):
    """Though others cannot be read."""
    flags = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png", "-d", pictures, "-e", 1]
    assert call_main("train.py", *flags).returncode == 0
    root = tmp_path / "own" / "test"
    shutil.copytree(pictures / "test", root)
    for number in range(30):
        (root / "o" / f"bad{number}.png").write_bytes(b"hello")
    for seed in range(3):
        predict = ["predict.py", *flags[:2], "-d", root.parent, "-n", 2, "--seed", seed]
        run = call_main(*predict, "--no-display")
        assert run.returncode == 0 and run.stdout.count("ground truth label") == 2


def test_classes_count_by_name(data, trained, tmp_path, call_main):
    """A model of pictures in folders o, ki, ... has the same ten classes in another order."""
    order = sorted(CLASSES)
    checkpoint = torch.load(trained.model)
    chosen = [CLASSES.index(name) for name in order]
    for key in ("fc2.weight", "fc2.bias"):
        checkpoint["model"][key] = checkpoint["model"][key][chosen]
    torch.save(checkpoint | {"classes": order, "dataset": "pictures"}, "own.pth")
    predict = ["predict.py", "-d", data, "--mistakes", "--no-display"]
    ours, theirs = (call_main(*predict, "-m", model) for model in ("own.pth", trained.model))
    assert ours.stdout == theirs.stdout and "misclassified" in ours.stdout


def test_only_pictures_that_are_taken_as_they_are_can_be_too_light(tmp_path, capsys):
    """A filled circle becomes white on black."""
    for split in ("train", "test"):
        for name, size in (("disc", 100), ("dot", 60)):
            for shift in range(3):
                picture = Image.new("L", (300, 300), 240)
                box = (100 + shift, 100, 100 + shift + size, 100 + size)
                ImageDraw.Draw(picture).ellipse(box, fill=10)
                (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
                picture.save(tmp_path / split / name / f"{split}{shift}.png")
    assert load_dataset("auto", tmp_path).train[:][0].mean() > 0.5
    assert "light" not in capsys.readouterr().err


def test_network_drive_that_drops_out_stops_the_training(pictures, monkeypatch, call_main):
    """Its pictures are not left out as if they were damaged."""
    opened, real = [], Image.open

    def fail(path):
        opened.append(path)
        if len(opened) > 20:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path)

    monkeypatch.setattr(Image, "open", fail)
    run = call_main("train.py", "-d", pictures, "-e", 1)
    assert_one_line(run, 1, opened[-1], os.strerror(errno.EIO))
    assert len(opened) == 21
