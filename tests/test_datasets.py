"""KMNIST arrives whole or not at all, whatever a server, a disk or a kill does to it."""

import gzip
import hashlib
import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from urllib.parse import quote
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from conftest import ROOT
from conftest import assert_one_line
from conftest import environment
from conftest import run_script
from idx import idx_bytes
from idx import write_dataset

from modules import datasets
from modules.printed import draw_images


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
    for kind, values in zip(("images-idx3", "labels-idx1"), pair, strict=True)
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
    monkeypatch.setattr(datasets, "SHA256", SHA256)
    monkeypatch.setattr(datasets, "MIRRORS", [])
    monkeypatch.setattr(datasets, "TIMEOUT", 1)
    monkeypatch.setattr(datasets, "failed_mirrors", {})
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()

    def address(fault):
        if fault == "refused":
            return "http://127.0.0.1:9/"
        return f"http://127.0.0.1:{server.server_port}/{quote(fault)}/"

    return address


def assert_official(loaded):
    """These are the official images and labels."""
    for data, (images, labels) in zip(loaded, OFFICIAL.values(), strict=True):
        assert torch.equal(data.data, torch.tensor(images))
        assert data.targets.tolist() == labels.tolist()
    image, label = loaded[0][7]
    assert torch.equal(image[0], torch.tensor(OFFICIAL["train"][0][7]) / 255)
    assert label == OFFICIAL["train"][1][7]


def assert_loads_without_a_mirror(root):
    datasets.MIRRORS[:] = []
    assert_official(datasets.load_dataset("kmnist", root))


def test_good_mirror(mirror, server, tmp_path):
    datasets.MIRRORS[:] = [mirror("good"), mirror("404")]
    assert_official(datasets.load_dataset("auto", tmp_path))
    assert "404" not in server.asked
    assert_loads_without_a_mirror(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_helps_where_the_first_fails(fault, mirror, server, tmp_path):
    datasets.MIRRORS[:] = [mirror(fault), mirror("good")]
    assert_official(datasets.load_dataset("kmnist", tmp_path))
    # the first failed for the first of four files, and was dropped
    assert server.asked.count(fault) <= 1
    assert list(tmp_path.rglob("*.partial")) == []
    assert_loads_without_a_mirror(tmp_path)


def test_all_mirrors_fail(mirror, server, monkeypatch, tmp_path, call_main, capsys):
    faults = ["refused", "503", "silence", "cut short", "no HTTP"]
    datasets.MIRRORS[:] = [mirror(fault) for fault in faults]
    outputs = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
    run = call_main("train.py", "--dataset", "kmnist", "-d", tmp_path, *outputs)
    words = ["refused", "503", "timed out", "hash", "--data"]
    words += [tmp_path / "KMNIST" / "raw", *datasets.MIRRORS]
    assert_one_line(run, 1, *words)
    assert list(tmp_path.rglob("*-ubyte*")) == []

    # printed Hiragana ask no server, and auto has asked them all
    server.asked.clear()
    monkeypatch.setattr(datasets, "PrintedHiragana", lambda train: train)
    for name in ("printed", "auto"):
        assert datasets.load_dataset(name, tmp_path) == (True, False)
    assert server.asked == []
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("[WARNING] ")
    assert datasets.MIRRORS[-1] in warning


def test_checksums():
    """The real files cannot be here; at least no slip of a hand changes their SHA-256 unseen."""
    digests = "".join(datasets.SHA256[name] for name in SHA256)
    assert hashlib.sha256(digests.encode()).hexdigest().startswith("d31741c295898b18")


def test_files_put_there_by_hand(mirror, tmp_path):
    raw = write_dataset(tmp_path / "packed")
    for name, content in PACKED.items():
        (raw / name).write_bytes(content)
    assert_loads_without_a_mirror(tmp_path / "packed")
    write_dataset(tmp_path / "own", **OWN)
    assert [len(data) for data in datasets.load_dataset("auto", tmp_path / "own")] == [12, 11]


IMAGE_BYTES, LABEL_BYTES = (idx_bytes(values) for values in OWN["train"])
DAMAGED = [
    (IMAGES, b""),
    (IMAGES, IMAGE_BYTES[:16]),
    (IMAGES, IMAGE_BYTES[:-1]),
    (IMAGES, IMAGE_BYTES + b"\0"),
    (IMAGES, IMAGE_BYTES[:11] + b"\x1b" + IMAGE_BYTES[12:]),
    (IMAGES, LABEL_BYTES),
    (LABELS, b"a text that somebody saved under this name"),
    (LABELS, LABEL_BYTES[:-1] + b"\x0a"),
    (f"{IMAGES}.gz", PACKED[f"{IMAGES}.gz"][:-9]),
    (f"{LABELS}.gz", b"no gzip"),
    (f"{LABELS}.gz", gzip.compress(b"something else")),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED)
def test_damaged_file(name, content, mirror, server, tmp_path, call_main):
    raw = write_dataset(tmp_path, **OWN)
    (raw / name).with_suffix("").unlink(missing_ok=True)
    (raw / name).write_bytes(content)
    datasets.MIRRORS[:] = [mirror("good")]
    outputs = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
    run = call_main("train.py", "-d", tmp_path, *outputs)
    assert_one_line(run, 1, raw / name, "remove it")
    assert (raw / name).read_bytes() == content
    assert server.asked == []


def test_images_and_labels_that_do_not_match(mirror, tmp_path):
    write_dataset(tmp_path, t10k=OWN["t10k"], train=(OWN["train"][0], OFFICIAL["train"][1]))
    with pytest.raises(SystemExit, match=r"\[ERROR\].* 12 images.* 30 labels"):
        datasets.load_dataset("auto", tmp_path)


def download_as_a_process(mirrors, sha256, root):
    datasets.MIRRORS[:] = mirrors
    datasets.SHA256.update(sha256)
    datasets.load_dataset("kmnist", root)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_killed_in_the_middle_of_a_download(mirror, tmp_path):
    arguments = [mirror("half, then silence")], SHA256, tmp_path
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=download_as_a_process, args=arguments)
    process.start()
    while not list(tmp_path.rglob("*.partial")):
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    datasets.MIRRORS[:] = [mirror("good")]
    assert_official(datasets.load_dataset("kmnist", tmp_path))


def test_offline_auto_trains_on_printed_hiragana(tmp_path):
    model, plot = tmp_path / "model.pth", tmp_path / "plot.png"
    run = run_script(
        "train.py", "-d", tmp_path / "data", "-m", model, "-p", plot, "-e", 1, "--val-split", 0.9
    )
    assert run.returncode == 0, run.stderr
    assert "6000 training, 54000 validation, 10000 test images" in run.stdout
    (warning,) = run.stderr.splitlines()
    assert warning.startswith("[WARNING] ")
    for address in datasets.MIRRORS:
        assert address in warning
    assert re.search("printed Hiragana.*\n +precision", run.stdout)
    assert torch.load(model, weights_only=True)["dataset"] == "printed"

    # predict.py takes the dataset from the model, and needs nothing else
    run = run_script("predict.py", "-m", model, "-o", tmp_path / "o.png", "--no-display")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == 10


def test_printed_hiragana():
    images, labels = draw_images("おきすつなはまやれを", 1000, seed=0)
    assert (images.shape, images.dtype) == ((1000, 28, 28), np.uint8)
    assert np.bincount(labels).tolist() == [100] * 10
    assert len({image.tobytes() for image in images}) == 1000
    # ink on paper: most of an image is dark, and all of them have light strokes
    assert np.median(images) < 40
    assert (images.max(axis=(1, 2)) > 120).mean() > 0.98
    again, _ = draw_images("おきすつなはまやれを", 1000, seed=0)
    assert (images == again).all(), "a seed gives the same images"


WITHOUT_OPENCV = """
import sys
{fault}
from modules import cli
import train
train.main()
try:
    cli.run(lambda: train.load_dataset("printed", ""))
except SystemExit as end:
    print(end, file=sys.stderr)
import predict
"""


@pytest.mark.parametrize(
    "fault",
    ['sys.modules["cv2"] = None', 'import cv2; cv2.__version__ = "5.1.0"'],
    ids=["missing", "without Hiragana"],
)
def test_training_on_kmnist_needs_no_opencv(fault, data, tmp_path):
    """Everything else says in one line what to install."""
    words = ["-d", data, "-e", "1", "-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
    command = [sys.executable, "-c", WITHOUT_OPENCV.format(fault=fault), *words]
    run = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert run.returncode == 1
    assert "accuracy" in run.stdout
    lines = run.stderr.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.match(r"\[ERROR\] a library is missing.*OpenCV.*libgl1", line)
