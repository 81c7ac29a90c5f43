"""KMNIST arrives whole or not at all, whatever a server, a disk or a kill does to it."""

from modules import datasets, kmnist
from modules.strokes import STROKES, draw_character
from modules.synthetic import draw_images

import errno
import gzip
import hashlib
import os
import re
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

import numpy as np
import pytest
import torch
from conftest import (
    REAL_KMNIST,
    assert_one_line,
    contents,
    needs_signals,
    skip_without_kmnist,
    start_process,
)
from idx import idx_bytes, read_dataset, write_dataset
from PIL import Image
from torchvision.datasets import KMNIST


def random_split(num_images, seed):
    rng = np.random.RandomState(seed)
    images = rng.randint(250, size=(num_images, 28, 28)).astype(np.uint8)
    return images, rng.randint(10, size=num_images).astype(np.uint8)


# what the server here gives out as KMNIST, and what a user may have made
OFFICIAL = {"train": random_split(30, seed=0), "t10k": random_split(20, seed=1)}
OWN = {"train": random_split(12, seed=2), "t10k": random_split(11, seed=3)}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PLAIN = {
    f"{split}-{kind}-ubyte": idx_bytes(values)
    for split, pair in OFFICIAL.items()
    for kind, values in zip(("images-idx3", "labels-idx1"), pair)
}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in PLAIN.items()}
RESOURCES = [(name, hashlib.md5(content).hexdigest()) for name, content in PACKED.items()]


class Handler(BaseHTTPRequestHandler):
    """Serves PACKED under /FAULT/NAME.gz, as faulty as FAULT says."""

    def do_GET(self):
        _, fault, name = unquote(self.path).split("/")
        self.server.asked.append(fault)
        body = content = PACKED[name]
        if fault.isdecimal() or (fault == "404 for train" and "train" in name):
            return self.send_error(int(fault[:3]))
        if fault in ("half, then silence", "cut short"):
            body = content[: len(content) // 2]
        if fault == "one byte changed":
            body = content[:50] + bytes([content[50] ^ 1]) + content[51:]
        if fault == "no HTTP":
            self.wfile.write(b"\x1b[31mhello\r\n\r\n")
        elif fault != "silence":
            self.send_response(200)
            self.send_header("Content-Length", len(content))
            self.end_headers()
            self.wfile.write(body)
        if "silence" in fault:
            self.server.ended.wait(30)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ended = threading.Event()
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


@pytest.fixture
def mirror(server, monkeypatch):
    """Take OFFICIAL for KMNIST, with one good mirror; give the address of one with a fault."""

    def address(fault):
        if "silence" in fault:
            kmnist.TIMEOUT = 1
        port = 9 if fault == "refused" else server.server_port
        return f"http://127.0.0.1:{port}/{quote(fault)}/"

    monkeypatch.setattr(KMNIST, "resources", RESOURCES)
    monkeypatch.setattr(kmnist, "TIMEOUT", 60)
    monkeypatch.setattr(KMNIST, "mirrors", [])
    monkeypatch.setattr(kmnist, "MIRRORS", [address("good")])
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()
    return address


@pytest.fixture
def assert_refused(mirror, server, tmp_path, call_main):
    """The script says what is wrong with the data in one line, changes and downloads nothing."""

    def assert_refused(root, *words, script=("train.py",)):
        before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
        folder = ["-d", root] if root else []
        assert_one_line(call_main(*script, *folder), 1, *words)
        after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
        assert (after, server.asked) == (before, [])

    return assert_refused


def load(name, root):
    dataset = datasets.load_dataset(name, root)
    return dataset.train, dataset.test


def assert_official(loaded):
    """These are the official images and labels."""
    for data, (images, labels) in zip(loaded, OFFICIAL.values()):
        assert torch.equal(data.tensors[0], torch.tensor(images).unsqueeze(1) / 255)
        assert torch.equal(data.tensors[1], torch.tensor(labels).long())


def assert_loads_without_a_mirror(root):
    kmnist.MIRRORS[:] = []
    assert_official(load("kmnist", root))


def put_official(raw, *names):
    """Put KMNIST's files with these beginnings into a folder, gzipped; return it."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in PACKED.items():
        if name.startswith(names):
            (raw / name).write_bytes(content)
    return raw


def test_good_mirror(mirror, server, tmp_path, capsys):
    kmnist.MIRRORS.append(mirror("404"))
    assert_official(load("kmnist", tmp_path / "new"))
    assert server.asked and set(server.asked) == {"good"}
    out, err = capsys.readouterr()
    assert f"from {kmnist.MIRRORS[0]}" in out and str(tmp_path / "new" / "KMNIST" / "raw") in out
    assert err == "", "torchvision's progress bars belong on a terminal alone"
    assert socket.getdefaulttimeout() is None, "other programs keep theirs"
    assert_loads_without_a_mirror(tmp_path / "new")


FAULTS = ["refused", "503", "silence", "half, then silence", "cut short", "one byte changed"]


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_helps_where_the_first_fails(fault, mirror, server, tmp_path):
    kmnist.MIRRORS.insert(0, mirror(fault))
    assert_official(load("kmnist", tmp_path))
    assert server.asked[0] == ("good" if fault == "refused" else fault), "in order"
    raw = tmp_path / "KMNIST" / "raw"
    assert sorted(contents(raw)) == sorted([*PLAIN, *PACKED])
    assert list(tmp_path.iterdir()) == [raw.parent], "and nothing is left beside"
    assert_loads_without_a_mirror(tmp_path)


def test_file_that_is_there_is_not_downloaded_again(mirror, server, tmp_path):
    """Nor is it changed."""
    folder = put_official(tmp_path / "KMNIST" / "raw", "train")
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    kmnist.MIRRORS.insert(0, mirror("404 for train"))
    assert_official(load("kmnist", tmp_path))
    assert set(server.asked) == {"404 for train"}
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_all_mirrors_fail(mirror, tmp_path, call_main):
    faults = ["refused", "503", "silence", "cut short", "no HTTP"]
    kmnist.MIRRORS[:] = [mirror(fault) for fault in faults]
    root = tmp_path / "new" / "data"
    run = call_main("train.py", "--dataset", "kmnist", "-d", root)
    words = ["refused", "503", "timed out", "corrupted", "--data"]
    assert_one_line(run, 1, *words, root / "KMNIST" / "raw", *kmnist.MIRRORS)
    # a folder that was not there is not there now
    assert list(tmp_path.iterdir()) == []


def test_own_server_with_the_real_checksums(server, monkeypatch, tmp_path):
    """KMNIST itself, where it is: the files that torchvision's checksums stand for."""
    skip_without_kmnist()
    raw = REAL_KMNIST / "KMNIST" / "raw"
    monkeypatch.setattr(sys.modules[__name__], "PACKED", contents(raw))
    monkeypatch.setattr(kmnist, "MIRRORS", [f"http://127.0.0.1:{server.server_port}/good/"])
    monkeypatch.setenv("no_proxy", "*")
    assert [len(data) for data in load("kmnist", tmp_path)] == [60_000, 10_000]


def test_other_datasets_are_left_alone(mirror, tmp_path):
    """As PyTorch's own tutorials leave them in `data`."""
    write_dataset(tmp_path, **OWN).parent.rename(tmp_path / "MNIST")
    others = contents(tmp_path / "MNIST" / "raw")
    assert_official(load("kmnist", tmp_path))
    assert contents(tmp_path / "MNIST" / "raw") == others


def test_files_put_there_by_hand(mirror, tmp_path):
    """KMNIST's gzipped, or unpacked beside some of these; and own ones."""
    assert_loads_without_a_mirror(put_official(tmp_path / "a" / "KMNIST" / "raw", "t").parents[1])
    put_official(write_dataset(tmp_path / "both", **OFFICIAL), "train")
    assert_loads_without_a_mirror(tmp_path / "both")
    write_dataset(tmp_path / "own", **OWN)
    assert [len(data) for data in load("auto", str(tmp_path / "own"))] == [12, 11]


def test_full_disk_is_no_failed_download(mirror, tmp_path, monkeypatch, call_main):
    """Another server would not help, and nothing else is trained on."""

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put_official(tmp_path / "KMNIST" / "raw", "t")
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    assert_one_line(call_main("train.py", "-d", tmp_path), 1, "[ERROR] No space left on device")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_folder_that_cannot_be_written(mirror, call_main):
    run = call_main("train.py", "--dataset", "kmnist", "-d", "/proc/none")
    assert_one_line(run, 1, "[ERROR] /proc", "check the path")


IMAGE_BYTES = idx_bytes(OWN["train"][0])
DAMAGED = {
    "empty": (IMAGES, b""),
    "no image": (IMAGES, IMAGE_BYTES[:16]),
    "a byte too few": (IMAGES, IMAGE_BYTES[:-1]),
    "a byte too many": (IMAGES, IMAGE_BYTES + b"\0"),
    "numbers of another type": (IMAGES, IMAGE_BYTES[:2] + b"\x0d" + IMAGE_BYTES[3:]),
    "text": (LABELS, b"a text that somebody saved under this name"),
    "compressed, cut short": (f"{IMAGES}.gz", PACKED[f"{IMAGES}.gz"][:-9]),
    "compressed text": (f"{LABELS}.gz", gzip.compress(b"something else")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_file(damage, mirror, tmp_path, assert_refused):
    name, content = DAMAGED[damage]
    raw = tmp_path / "KMNIST" / "raw"
    if name.endswith(".gz"):
        put_official(raw, "t")
    else:
        write_dataset(tmp_path, **OWN)
    (raw / name).write_bytes(content)
    told = [raw, name] if name.endswith(".gz") else [raw / name]
    assert_refused(tmp_path, *told, "remove")


IMAGES_32, (OWN_IMAGES, OWN_LABELS) = np.zeros((12, 32, 32), np.uint8), OWN["train"]
UNFIT = {
    "labels from 1 to 10": (OWN_IMAGES, 1 + np.arange(12) % 10, "[1] to [10]"),
    "another size": (IMAGES_32, OWN_LABELS, "(12, 32, 32)"),
    "one-hot labels": (OWN_IMAGES, np.eye(10)[OWN_LABELS], "2"),
    "another number": (OWN_IMAGES, OWN_LABELS[:7], "(12, 28, 28)"),
    "nothing": (OWN_IMAGES[:0], OWN_LABELS[:0], "but found"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_own_files_that_do_not_fit(name, tmp_path, assert_refused):
    images, labels, told = UNFIT[name]
    raw = write_dataset(tmp_path, train=(images, labels), t10k=OWN["t10k"])
    assert_refused(tmp_path, raw, IMAGES, LABELS, told, "(N, 28, 28)", "from 0 to 9", "CLASS")


# where files may be that are not where they should be, what is given as --data, and what is told
MISPLACED = [
    (f"KMNIST/raw/{IMAGES[:12]}.idx3-ubyte", ".", IMAGES),
    # as a Mac unpacks some archives of MNIST
    (f"KMNIST/raw/{IMAGES}/{IMAGES[:12]}.idx3-ubyte", ".", LABELS),
    ("KMNIST/raw/train.npz", ".", "train.npz"),
    (IMAGES, ".", "into KMNIST/raw"),
    (f"KMNIST/{IMAGES}", ".", "into KMNIST/raw"),
    (f"KMNIST/raw/{IMAGES}.gz", "KMNIST/raw", "try --data {}"),
    (f"KMNIST/raw/{IMAGES}", "KMNIST", "try --data {}"),
]


@pytest.mark.parametrize(("name", "root", "told"), MISPLACED)
def test_files_in_a_wrong_place(name, root, told, tmp_path, assert_refused):
    """KMNIST's own, too: they are not overlooked."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PACKED[f"{IMAGES}.gz"])
    assert_refused(tmp_path / root, "KMNIST", told.format(f"{tmp_path};"))


@pytest.mark.parametrize("place", [".", "raw", "KMNIST"])
def test_files_in_a_wrong_place_of_the_default_folder(place, tmp_path, assert_refused):
    """Whatever else lies there; pictures in a layout that is not understood stay unnoticed."""
    for folder in (tmp_path / "data" / "Train", tmp_path / "data" / place):
        folder.mkdir(parents=True, exist_ok=True)
    (folder / IMAGES).write_bytes(b"")
    assert_refused(None, "data holds", "into KMNIST/raw", "--dataset kmnist")


def test_kmnist_is_downloaded_to_a_folder_that_holds_no_other_data(mirror, tmp_path):
    """Or to any, where it is told to."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    (tmp_path / "shared" / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "pictures" / "cats").mkdir(parents=True)
    for name, folder in [("auto", "empty"), ("auto", "shared"), ("kmnist", "pictures")]:
        assert_official(load(name, str(tmp_path / folder)))
    # without --data, other things in the folder `data` do not matter
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    assert_official(load("auto", None))


def put_pictures(root, *folders, name="1.png"):
    """Put a picture into each of the folders."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(OWN["train"][0][len(folder) % 12]).save(root / folder / name, "png")


BOTH = ["train/a", "train/b", "test/a", "test/b"]
# folders with pictures, or files, in a folder x; what is given as --data; what is told
LAYOUTS = {
    "capital letters": (["Train/a", "Train/b", "Test/a"], "x", "holds Test, Train"),
    "training": (["training/a", "training/b", "testing/a"], "x", "holds testing, training"),
    "val": (["train/a", "train/b", "val/a"], "x", "holds train, val"),
    "no split": (["a", "b"], "x", "holds a, b"),
    "no classes": (["."], "x", "put picture files"),
    "no classes in train": (["train", "test"], "x", "holds test, train"),
    "too high": ([f"mine/{folder}" for folder in BOTH], "x", "try --data {}/x/mine"),
    "too low": (BOTH, "x/train", "try --data {}/x;"),
    "misspelled": (BOTH, "X1", "does not exist"),
    "CSV": (["train.csv"], "x", "holds train.csv"),
    "ZIP": (["images.zip"], "x/images.zip", "is a file"),
    "Kaggle": (["kmnist-train-imgs.npz", "kmnist_classmap.csv"], "x", "-ubyte.gz"),
    "EMNIST": (["emnist-letters-train-images-idx3-ubyte"], "x", "classes are not KMNIST's"),
    "something else": ([*"cdefgh", "CIFAR/data"], "x", "holds CIFAR, c, d, e, ..."),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_that_is_not_understood(layout, tmp_path, assert_refused):
    """Nothing is trained on in its place."""
    found, given, told = LAYOUTS[layout]
    for name in found:
        if "." in name[1:] or len(name) == 1 and layout == "something else":
            (tmp_path / "x").mkdir(exist_ok=True)
            (tmp_path / "x" / name).touch()
        else:
            put_pictures(tmp_path / "x", name)
    assert_refused(tmp_path / given, tmp_path / given, told.format(tmp_path))


def test_own_files_are_never_mixed_with_kmnists(mirror, trained, tmp_path, assert_refused):
    """Nor overwritten: some of the four files, whatever lies beside, or other gzipped ones."""
    some = put_official(write_dataset(tmp_path / "some", train=OWN["train"]), "t10k")
    two = write_dataset(tmp_path / "two", train=OWN["train"])
    for script in (["train.py"], ["predict.py", "-m", trained.model]):
        for raw in (some, two):
            assert_refused(raw.parents[1], f"{raw} holds {IMAGES}, {LABELS}", script=script)
    gzipped = put_official(tmp_path / "gzipped" / "KMNIST" / "raw", "t")
    (gzipped / f"{IMAGES}.gz").write_bytes(gzip.compress(idx_bytes(OWN["train"][0])))
    assert_refused(tmp_path / "gzipped", f"{gzipped} holds {IMAGES}.gz: expected", "remove")


@pytest.mark.parametrize("said", ["no pixel is above 1, but", "the images are mostly light"])
def test_images_that_cannot_be_meant_are_trained_on_with_a_warning(said, data, paths, call_main):
    images, labels = read_dataset(data, "train")
    images = images // 128 if "1" in said else 255 - images
    root = paths[3].parent
    write_dataset(root, train=(images, labels), t10k=(images[:50], labels[:50]))
    run = call_main("train.py", *paths, "-d", root, "-e", 1)
    assert run.returncode == 0
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"[WARNING] {root}: {said}")


def test_averages_count_only_classes_that_occur(data, paths, call_main):
    few = {}
    for split in ("train", "t10k"):
        images, labels = read_dataset(data, split)
        few[split] = images[labels < 3], labels[labels < 3]
    write_dataset(paths[3].parent, **few)
    report = call_main("train.py", *paths, "-d", paths[3].parent, "-e", 8).stdout
    assert re.findall(r"^ +([a-z]+) .* \d+$", report, re.M)[:3] == ["o", "ki", "su"]
    accuracy, average = (
        float(re.search(rf"{row} .*?([\d.]+) +\d+$", report, re.M)[1])
        for row in ("accuracy", "macro avg")
    )
    assert average == pytest.approx(accuracy, abs=0.1)


def test_pipe_that_closes_does_not_change_the_dataset(monkeypatch):
    """A BrokenPipeError, as in `train.py | true`, is a ConnectionError, and no failed download."""
    monkeypatch.setattr("builtins.print", lambda *_, **__: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        datasets.load_dataset()


def download_as_a_process(mirrors, resources, root):
    os.environ["no_proxy"] = "*"
    kmnist.MIRRORS[:] = mirrors
    KMNIST.resources = resources
    datasets.load_dataset("kmnist", root)


@needs_signals
@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT"])
def test_stopped_in_the_middle_of_a_download(number, mirror, tmp_path):
    process = start_process(
        download_as_a_process, [mirror("half, then silence")], RESOURCES, tmp_path
    )
    while not list(tmp_path.rglob("*.gz")):
        assert process.is_alive()
        time.sleep(0.02)
    os.kill(process.pid, getattr(signal, number))
    process.join()
    if number == "SIGINT":
        assert list(tmp_path.iterdir()) == []
    assert_official(load("kmnist", tmp_path))


def test_offline_auto_trains_on_synthetic_hiragana(tmp_path, monkeypatch, call_main):
    """Of which fewer are drawn here."""
    asked = []

    def draw_fewer(num_images, seed):
        images, labels = draw_images(num_images // 50, seed)
        # on another processor, pixels may differ a little
        images[len(asked), 0, 0] += 1
        asked.append((num_images, seed))
        return images, labels

    monkeypatch.setattr("modules.synthetic.draw_images", draw_fewer)
    flags = ["-m", tmp_path / "model.pth"]
    run = call_main("train.py", *flags, "-p", tmp_path / "p.png", "-e", 1)
    assert run.returncode == 0
    assert "[INFO] synthetic Hiragana: 900 training, 300 validation, 200 test images" in run.stdout
    (warning,) = run.stderr.splitlines()
    assert warning.startswith("[WARNING] using synthetic Hiragana instead")
    assert all(address in warning for address in kmnist.MIRRORS)
    assert re.search("synthetic Hiragana.*\n +precision", run.stdout)
    assert not (tmp_path / "data").exists()

    # predict.py takes the dataset from the model, and needs nothing else
    predict = ["predict.py", *flags, "-o", tmp_path / "o.png", "--no-display"]
    run = call_main(*predict)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == 10
    assert asked == [(60_000, 0), (10_000, 1), (10_000, 1)]
    # for just a state dict, it looks for a dataset as train.py does
    torch.save(torch.load(flags[1])["model"], "try.pth")
    run = call_main(*predict, "-m", "try.pth")
    assert run.stdout.count("ground truth label") == 10
    assert run.stderr.startswith("[WARNING] using synthetic Hiragana instead")

    # training goes on, too; what the user asks for by name has no stand-in
    run = call_main("train.py", *flags, "-p", tmp_path / "p.png", "-e", 2, "--resume")
    assert (run.returncode, run.stderr) == (0, "")
    run = call_main("train.py", "--dataset", "kmnist")
    assert_one_line(run, 1, "could not be downloaded", "choose another --data")
    # and --data holds where it is given
    raw = write_dataset(tmp_path / "own", **OWN)
    assert f"images from {raw}" in call_main(*predict, "-d", tmp_path / "own").stdout
    assert_one_line(call_main(*predict, "-d", tmp_path / "none"), 1, tmp_path / "none", "--data")


def test_synthetic_hiragana():
    images, labels = draw_images(1500, seed=0)
    assert (images.shape, images.dtype) == ((1500, 28, 28), torch.uint8)
    assert labels.bincount().tolist() == [150] * 10
    assert labels[:10].tolist() != list(range(10)), "in random order"
    assert len({image.numpy().tobytes() for image in images}) == 1500
    # ink on paper: most of an image is dark, and all of them have light strokes
    assert images.median() < 40
    assert (images.amax(dim=(1, 2)) > 120).double().mean() > 0.98
    # faded ink, and a bit of the characters above and below in every fourth image
    assert ((images > 60) & (images < 190)).double().sum(dim=(1, 2)).mean() > 45
    rows = images.double().mean(dim=2)
    assert rows[0::4, :4].mean() > 1.5 * rows[2::4, :4].mean()
    assert rows[1::4, -4:].mean() > 1.5 * rows[2::4, -4:].mean()
    before = torch.get_rng_state()
    assert torch.equal(images, draw_images(1500, seed=0)[0]), "a seed gives the same images"
    assert torch.equal(torch.get_rng_state(), before), "and changes no other random numbers"
    assert list(STROKES) == kmnist.CLASSES
    canvas = np.zeros((28, 28), np.uint8)
    draw_character(canvas, "tsu", x=0, y=0, size=28, color=255, width=1)
    assert canvas.any(axis=0).sum() > canvas.any(axis=1).sum(), "wider than high"
