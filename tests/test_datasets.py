"""KMNIST arrives whole or not at all, whatever a server, a disk or a kill does to it."""

from modules import datasets, kmnist
from modules.synthetic import STROKES, draw_images

import gzip
import hashlib
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pytest
import torch
from conftest import (
    REAL_KMNIST,
    assert_one_line,
    contents,
    processes,
    run_python,
    run_script,
    skip_without_kmnist,
)
from idx import idx_bytes, read_dataset, write_dataset


def random_split(num_images, seed):
    rng = np.random.RandomState(seed)
    images = rng.randint(256, size=(num_images, 28, 28)).astype(np.uint8)
    return images, rng.randint(10, size=num_images).astype(np.uint8)


# what the server here gives out as KMNIST, and what a user may have made
OFFICIAL = {"train": random_split(30, seed=0), "t10k": random_split(20, seed=1)}
OWN = {"train": random_split(12, seed=2), "t10k": random_split(11, seed=3)}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PACKED = {
    f"{split}-{kind}-ubyte.gz": gzip.compress(idx_bytes(values), mtime=0)
    for split, pair in OFFICIAL.items()
    for kind, values in zip(("images-idx3", "labels-idx1"), pair)
}
PLAIN_SHA256 = {
    name[:-3]: hashlib.sha256(gzip.decompress(content)).hexdigest()
    for name, content in PACKED.items()
}
SHA256 = {name[:-3]: hashlib.sha256(content).hexdigest() for name, content in PACKED.items()}
FAULTS = ["refused", "503", "silence", "half, then silence", "cut short", "one byte changed"]


class Handler(BaseHTTPRequestHandler):
    """Serves PACKED under /FAULT/NAME.gz, as faulty as FAULT says."""

    def do_GET(self):
        _, fault, name = unquote(self.path).split("/")
        self.server.asked.append(fault)
        body = content = PACKED[name]
        if fault.isdecimal():
            return self.send_error(int(fault))
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
    """Take OFFICIAL for KMNIST and have no mirrors; give the address of one with a fault."""
    monkeypatch.setattr(kmnist, "SHA256", SHA256)
    monkeypatch.setattr(kmnist, "PLAIN_SHA256", PLAIN_SHA256)
    monkeypatch.setattr(kmnist, "MIRRORS", [])
    monkeypatch.setattr(kmnist, "TIMEOUT", 1)
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()

    def address(fault):
        if fault == "refused":
            return "http://127.0.0.1:9/"
        return f"http://127.0.0.1:{server.server_port}/{quote(fault)}/"

    return address


def load(name, root):
    return [datasets.load_dataset(name, root, train) for train in (True, False)]


def assert_official(loaded):
    """These are the official images and labels."""
    for data, (images, labels) in zip(loaded, OFFICIAL.values()):
        assert torch.equal(data.images, torch.tensor(images))
        assert data.labels.tolist() == labels.tolist()
    image, label = loaded[0][7]
    assert torch.equal(image[0], torch.tensor(OFFICIAL["train"][0][7]) / 255)
    assert label == OFFICIAL["train"][1][7]


def assert_loads_without_a_mirror(root):
    kmnist.MIRRORS[:] = []
    assert_official(load("kmnist", root))


def test_good_mirror(mirror, server, tmp_path, capsys):
    kmnist.MIRRORS[:] = [mirror("good"), mirror("404")]
    assert_official(load("auto", tmp_path / "new"))
    assert "404" not in server.asked
    assert f"to {tmp_path / 'new' / 'KMNIST' / 'raw'}" in capsys.readouterr().out
    assert_loads_without_a_mirror(tmp_path / "new")


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_helps_where_the_first_fails(fault, mirror, server, tmp_path):
    kmnist.MIRRORS[:] = [mirror(fault), mirror("good")]
    assert_official(load("kmnist", tmp_path))
    # the first failed for the first of four files, and was dropped
    assert server.asked.count(fault) <= 1
    assert list(tmp_path.rglob("*.partial")) == []
    assert_loads_without_a_mirror(tmp_path)


def test_all_mirrors_fail(mirror, server, tmp_path, call_main):
    faults = ["refused", "503", "silence", "cut short", "no HTTP"]
    kmnist.MIRRORS[:] = [mirror(fault) for fault in faults]
    root = tmp_path / "new" / "data"
    run = call_main("train.py", "--dataset", "kmnist", "-d", root)
    words = ["refused", "503", "timed out", "hash", "--data"]
    words += [root / "KMNIST" / "raw", *kmnist.MIRRORS]
    assert_one_line(run, 1, *words)
    # a folder that was not there is not there now
    assert list(tmp_path.iterdir()) == []


def test_own_server_with_the_real_checksums(server, monkeypatch, tmp_path):
    """KMNIST itself, where it is: the files that the SHA-256 in datasets.py stand for."""
    skip_without_kmnist()
    raw = REAL_KMNIST / "KMNIST" / "raw"
    monkeypatch.setattr(sys.modules[__name__], "PACKED", contents(raw))
    monkeypatch.setattr(kmnist, "MIRRORS", [f"http://127.0.0.1:{server.server_port}/good/"])
    monkeypatch.setenv("no_proxy", "*")
    assert [len(data) for data in load("kmnist", tmp_path)] == [60_000, 10_000]


def test_rest_of_kmnist_is_downloaded(mirror, server, tmp_path):
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f"{IMAGES}.gz").write_bytes(PACKED[f"{IMAGES}.gz"])
    kmnist.MIRRORS[:] = [mirror("good")]
    assert_official(load("kmnist", tmp_path))
    assert len(server.asked) == 3


def test_files_put_there_by_hand(mirror, tmp_path):
    raw = write_dataset(tmp_path / "packed")
    for name, content in PACKED.items():
        (raw / name).write_bytes(content)
    assert_loads_without_a_mirror(tmp_path / "packed")
    raw = write_dataset(tmp_path / "own", **OWN)
    # plain content under a name that ends in .gz
    (raw / IMAGES).rename(raw / f"{IMAGES}.gz")
    assert [len(data) for data in load("auto", tmp_path / "own")] == [12, 11]


IMAGE_BYTES, LABEL_BYTES = (idx_bytes(values) for values in OWN["train"])
NPZ = BytesIO()
np.savez(NPZ, OWN["train"][0])
DAMAGED = [
    (IMAGES, b""),
    (IMAGES, IMAGE_BYTES[:16]),
    (IMAGES, IMAGE_BYTES[:-1]),
    (IMAGES, IMAGE_BYTES + b"\0"),
    (IMAGES, IMAGE_BYTES[:11] + b"\x1b" + IMAGE_BYTES[12:]),
    (IMAGES, NPZ.getvalue()),
    (LABELS, b"a text that somebody saved under this name"),
    (f"{IMAGES}.gz", PACKED[f"{IMAGES}.gz"][:-9]),
    (f"{LABELS}.gz", b"<html>not found</html>"),
    (f"{LABELS}.gz", gzip.compress(b"something else")),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED)
def test_damaged_file(name, content, mirror, server, tmp_path, call_main):
    raw = write_dataset(tmp_path, **OWN)
    (raw / name).with_suffix("").unlink(missing_ok=True)
    (raw / name).write_bytes(content)
    kmnist.MIRRORS[:] = [mirror("good")]
    assert_one_line(call_main("train.py", "-d", tmp_path), 1, raw / name, "remove it")
    assert (raw / name).read_bytes() == content
    assert server.asked == []


IMAGES_32, (OWN_IMAGES, OWN_LABELS) = np.zeros((12, 32, 32), np.uint8), OWN["train"]
UNFIT = {
    "labels from 1 to 10": (OWN_IMAGES, 1 + np.arange(12) % 10, "1 to 10"),
    "another size": (IMAGES_32, OWN_LABELS, "(12, 32, 32)"),
    "one-hot labels": (OWN_IMAGES, np.eye(10)[OWN_LABELS], "(12, 10)"),
    "a channel dimension": (OWN_IMAGES[..., None], OWN_LABELS, "(12, 28, 28, 1)"),
    "another number": (OWN_IMAGES, OWN_LABELS[:7], "(7,)"),
    "labels as images": (OWN_LABELS, OWN_LABELS, "(12,)"),
    "nothing": (OWN_IMAGES[:0], OWN_LABELS[:0], "(0,)"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_own_files_that_do_not_fit(name, mirror, server, tmp_path, call_main):
    images, labels, told = UNFIT[name]
    raw = write_dataset(tmp_path, train=(images, labels), t10k=OWN["t10k"])
    kmnist.MIRRORS[:] = [mirror("good")]
    run = call_main("train.py", "-d", tmp_path)
    assert_one_line(run, 1, raw, IMAGES, LABELS, told, "(N, 28, 28)", "0 to 9")
    assert "remove" not in run.stderr
    assert server.asked == []


def move(raw, old, new):
    (raw / new).parent.mkdir(parents=True, exist_ok=True)
    (raw / old).rename(raw / new)


def put_into_a_folder(raw):
    """As a Mac unpacks some archives of MNIST."""
    move(raw, IMAGES, "new")
    move(raw, "new", f"{IMAGES}/train-images.idx3-ubyte")


# where own files are that are not where they should be: what to do to the raw folder, what to pass
# to --data from there, and a file that the message should name
MISPLACED = {
    "a dot": (lambda raw: move(raw, IMAGES, "train-images.idx3-ubyte"), "../..", "images.idx3"),
    "at the top": (lambda raw: None, ".", "train-images"),
    "one up": (lambda raw: None, "..", "train-images"),
    "no test set": (
        lambda raw: [path.unlink() for path in raw.glob("t10k*")], "../..", "train-images"
    ),
    "test-": (
        lambda raw: move(raw, "t10k-images-idx3-ubyte", "test-images-idx3-ubyte"), "../..", "test-"
    ),
    "a folder": (put_into_a_folder, "../..", f"{IMAGES}/"),
    "npz": (
        lambda raw: [move(raw, path.name, f"{path.name[:5]}{i}.npz")
                     for i, path in enumerate(list(raw.iterdir()))], "../..", ".npz"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISPLACED)
def test_own_files_in_a_wrong_place(name, mirror, server, tmp_path, call_main):
    change, folder, told = MISPLACED[name]
    raw = write_dataset(tmp_path, **OWN)
    root = Path(os.path.normpath(raw / folder))
    change(raw)
    before = sorted(tmp_path.rglob("*"))
    kmnist.MIRRORS[:] = [mirror("good")]
    run = call_main("train.py", "-d", root)
    assert_one_line(run, 1, told, *(root / "KMNIST" / "raw" / name for name in SHA256))
    assert sorted(tmp_path.rglob("*")) == before
    assert server.asked == []


def put_official(raw, *names):
    """Put KMNIST's files with these beginnings into a folder, gzipped; return it."""
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in PACKED.items():
        if name.startswith(names):
            (raw / name).write_bytes(content)
    return raw


@pytest.mark.parametrize("others", ["MNIST/raw", "FashionMNIST/raw", "EMNIST/raw"])
def test_folders_of_other_datasets_are_left_alone(others, mirror, tmp_path):
    """As PyTorch's own tutorials leave them in `data`."""
    write_dataset(tmp_path, **OWN).rename(tmp_path / "others")
    (tmp_path / others).parent.mkdir(parents=True)
    (tmp_path / "others").rename(tmp_path / others)
    before = contents(tmp_path / others)
    kmnist.MIRRORS[:] = [mirror("good")]
    assert_official(load("kmnist", tmp_path))
    assert contents(tmp_path / others) == before


def test_own_files_beside_kmnists_are_never_mixed(mirror, server, trained, tmp_path, call_main):
    """Own plain files beside KMNIST's gzipped ones, or KMNIST's test set alone."""
    kmnist.MIRRORS[:] = [mirror("good")]
    raw = put_official(write_dataset(tmp_path / "one", train=OWN["train"]), "train", "t10k")
    run = call_main("train.py", "-d", tmp_path / "one")
    assert_one_line(run, 1, f"{raw / IMAGES} and {raw / IMAGES}.gz differ")

    raw = put_official(write_dataset(tmp_path / "two", train=OWN["train"]), "t10k")
    for command in (["train.py"], ["predict.py", "-m", trained.model]):
        run = call_main(*command, "-d", tmp_path / "two")
        assert_one_line(run, 1, raw / IMAGES, "is not KMNIST's", raw / "t10k-images-idx3-ubyte.gz")
    assert server.asked == []


def test_kmnist_unpacked_by_hand_is_kmnist(mirror, tmp_path):
    """Beside its gzipped files, and with some of these gone."""
    raw = put_official(write_dataset(tmp_path, **OFFICIAL), "train")
    assert_loads_without_a_mirror(tmp_path)
    (raw / "train-images-idx3-ubyte").unlink()
    assert_loads_without_a_mirror(tmp_path)


@pytest.mark.parametrize("values", ["0 and 1", "black on white"])
def test_images_that_cannot_be_meant_are_trained_on_with_a_warning(values, data, paths, call_main):
    images, labels = read_dataset(data, "train")
    images = images // 128 if values == "0 and 1" else 255 - images
    root = paths[3].parent
    write_dataset(root, train=(images, labels), t10k=(images[:50], labels[:50]))
    run = call_main("train.py", *paths, "-d", root, "-e", 1)
    assert run.returncode == 0
    (line,) = run.stderr.splitlines()
    said = "no pixel is above 1, but pixels from 0 to 255" if "1" in values else "mostly light"
    assert line.startswith(f"[WARNING] {root}: ") and said in line


def test_idx_file_of_another_type(tmp_path, call_main):
    raw = write_dataset(tmp_path, **OWN)
    content = (raw / IMAGES).read_bytes()
    (raw / IMAGES).write_bytes(content[:2] + b"\x0d" + content[3:])
    assert_one_line(call_main("train.py", "-d", tmp_path), 1, raw / IMAGES, "float32", "uint8")


def test_averages_count_only_classes_that_occur(data, paths, call_main):
    images, labels = read_dataset(data, "train")
    few = labels < 3
    write_dataset(
        paths[3].parent, train=(images[few], labels[few]), t10k=(images[few], labels[few])
    )
    report = call_main("train.py", *paths, "-d", paths[3].parent, "-e", 8).stdout
    assert re.findall(r"^ +([a-z]+) .* \d+$", report, re.M)[:3] == ["o", "ki", "su"]
    accuracy, average = (
        re.search(rf"{row} .*?([\d.]+) +\d+$", report, re.M)[1] for row in ("accuracy", "macro avg")
    )
    assert abs(float(accuracy) - float(average)) < 0.1


def test_pipe_that_closes_does_not_change_the_dataset(monkeypatch, tmp_path):
    """A BrokenPipeError, as in `train.py | true`, is a ConnectionError, and no failed download."""
    monkeypatch.setattr("builtins.print", lambda *_, **__: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        datasets.load_dataset("auto", tmp_path, train=True)


def test_kmnist_in_a_wrong_place(mirror, tmp_path, call_main):
    """Its own files at the top of --data are not overlooked."""
    for name, content in PACKED.items():
        (tmp_path / name).write_bytes(content)
    assert_one_line(call_main("train.py", "-d", tmp_path), 1, tmp_path / f"{IMAGES}.gz")


def test_own_training_set_alone_is_no_test_set(mirror, server, trained, tmp_path, call_main):
    """predict.py needs the test set only, and downloads none beside own images."""
    write_dataset(tmp_path, train=OWN["train"])
    kmnist.MIRRORS[:] = [mirror("good")]
    run = call_main("predict.py", "-m", trained.model, "-d", tmp_path, "--no-display")
    assert_one_line(run, 1, IMAGES, tmp_path / "KMNIST" / "raw" / "t10k-images-idx3-ubyte")
    assert server.asked == []


def download_as_a_process(mirrors, sha256, root):
    kmnist.MIRRORS[:] = mirrors
    kmnist.SHA256.update(sha256)
    datasets.load_dataset("kmnist", root, train=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_killed_in_the_middle_of_a_download(mirror, tmp_path):
    arguments = [mirror("half, then silence")], SHA256, tmp_path
    process = processes.Process(target=download_as_a_process, args=arguments)
    process.start()
    while not list(tmp_path.rglob("*.partial")):
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    kmnist.MIRRORS[:] = [mirror("good")]
    assert_official(load("kmnist", tmp_path))


def test_offline_auto_trains_on_synthetic_hiragana(tmp_path, call_main):
    model, plot = tmp_path / "model.pth", tmp_path / "plot.png"
    run = run_script(
        "train.py", "-d", tmp_path / "data", "-m", model, "-p", plot, "-e", 1, "--val-split", 0.9
    )
    assert run.returncode == 0, run.stderr
    assert "6000 training, 54000 validation, 10000 test images" in run.stdout
    (warning,) = run.stderr.splitlines()
    assert warning.startswith("[WARNING] ")
    for address in kmnist.MIRRORS:
        assert address in warning
    assert re.search("synthetic Hiragana.*\n +precision", run.stdout)
    assert torch.load(model, weights_only=True)["dataset"] == "synthetic"
    assert not (tmp_path / "data").exists()

    # predict.py takes the dataset from the model, and needs nothing else
    flags = ["-m", model, "-o", tmp_path / "o.png", "--no-display"]
    run = run_script("predict.py", *flags)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == 10

    # but --data holds where it is given
    write_dataset(tmp_path / "own", **OWN)
    run = call_main("predict.py", *flags, "-d", tmp_path / "own", "-n", 100)
    assert run.stdout.count("ground truth label") == 11
    run = call_main("predict.py", *flags, "-d", tmp_path / "nowhere")
    assert_one_line(run, 1, tmp_path / "nowhere", "--data")


def test_synthetic_hiragana():
    images, labels = draw_images(1000, seed=0)
    assert (images.shape, images.dtype) == ((1000, 28, 28), torch.uint8)
    assert labels.bincount().tolist() == [100] * 10
    assert len({image.numpy().tobytes() for image in images}) == 1000
    # ink on paper: most of an image is dark, and all of them have light strokes
    assert images.median() < 40
    assert (images.amax(dim=(1, 2)) > 120).double().mean() > 0.98
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    again, _ = draw_images(1000, seed=0)
    assert torch.equal(images, again), "a seed gives the same images"
    assert torch.rand(1) == expected, "and changes no other random numbers"
    assert list(STROKES) == kmnist.CLASSES
    # wear: no image is ink and paper alone
    assert ((images > 60) & (images < 190)).sum(dim=(1, 2)).min() > 5


def test_training_on_kmnist_needs_no_opencv(data, tmp_path):
    program = 'import runpy, sys; sys.modules["cv2"] = None; del sys.argv[0]\n'
    program += 'runpy.run_path("train.py", run_name="__main__")'
    words = ["-d", data, "-e", "1", "-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
    run = run_python("-c", program, "train.py", *words)
    assert (run.returncode, run.stderr) == (0, "")
    assert "accuracy" in run.stdout
