"""KMNIST arrives whole or not at all, whatever a server, a disk or a kill does to it."""

import gzip
import hashlib
import json
import os
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
from conftest import NOT_ALMIGHTY
from conftest import ROOT
from conftest import assert_one_line
from conftest import environment
from conftest import needs_setpriv
from conftest import run_script
from idx import idx_bytes

from modules import datasets
from modules.printed import draw_images


def random_files(num_train, num_test, seed):
    """Return the content of four files in KMNIST's format, by name."""
    rng = np.random.RandomState(seed)
    files = {}
    for split, num_images in (("train", num_train), ("t10k", num_test)):
        images, labels = (
            rng.randint(256, size=(num_images, 28, 28)),
            rng.randint(10, size=num_images),
        )
        files[f"{split}-images-idx3-ubyte"] = idx_bytes(images.astype(np.uint8))
        files[f"{split}-labels-idx1-ubyte"] = idx_bytes(labels.astype(np.uint8))
    return files


# what the server here gives out as KMNIST, and what a user may have made
OFFICIAL = random_files(30, 20, seed=0)
OWN = random_files(12, 11, seed=1)
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in OFFICIAL.items()}
SHA256 = {name: hashlib.sha256(PACKED[f"{name}.gz"]).hexdigest() for name in OFFICIAL}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

FAULTS = [
    "refused", "no such name", "404", "500", "redirected in a circle", "no HTTP", "silence",
    "half, then silence", "cut short", "cut short and no length", "a length that is no number",
    "one byte changed", "gzip of something else",
]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Serves PACKED under /FAULT/NAME.gz, as faulty as FAULT says."""

    def do_GET(self):
        _, fault, name = unquote(self.path).split("/")
        self.server.asked.append(fault)
        content = PACKED[name]
        half = content[: len(content) // 2]
        if fault.isdecimal():
            self.send_error(int(fault))
        elif fault.startswith("redirect"):
            self.send_response(302)
            self.send_header("Location", f"/good/{name}" if fault == "redirect" else self.path)
            self.end_headers()
        elif fault == "no HTTP":
            self.wfile.write(b"\x1b[31mhello\r\n\r\n")
        elif fault == "silence":
            self.server.ended.wait(30)
        elif fault == "half, then silence":
            self.send_body(half, len(content))
            self.server.ended.wait(30)
        elif fault == "cut short":
            self.send_body(half, len(content))
        elif fault == "cut short and no length":
            self.send_body(half, None)
        elif fault == "a length that is no number":
            self.send_body(content, "many")
        elif fault == "one byte changed":
            self.send_body(half + bytes([content[len(half)] ^ 1]) + content[len(half) + 1 :])
        elif fault == "gzip of something else":
            self.send_body(gzip.compress(b"something else"))
        else:
            assert fault in ("good", "slow")
            time.sleep(0.3 if fault == "slow" else 0)
            self.send_body(content)

    def send_body(self, body, length=-1):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", len(body) if length == -1 else length)
        self.end_headers()
        self.wfile.write(body)

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
    """Take OFFICIAL for KMNIST and have no mirrors; give the address of one with a fault.

    A server is given up after one second.
    """
    monkeypatch.setattr(datasets, "SHA256", SHA256)
    monkeypatch.setattr(datasets, "MIRRORS", [])
    monkeypatch.setattr(datasets, "failures", {})
    monkeypatch.setattr(datasets, "PATIENCE", 1)
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()

    def address(fault):
        if fault == "refused":
            return "http://127.0.0.1:9/"
        if fault == "no such name":
            return "http://no-such-name.invalid/"
        return f"http://127.0.0.1:{server.server_port}/{quote(fault)}/"

    return address


def make_raw(root, files):
    raw = root / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def assert_official(root):
    """The folder holds the official files, nothing temporary, and loads without a mirror."""
    datasets.MIRRORS[:] = []
    raw = root / "KMNIST" / "raw"
    train_data, test_data, warning = datasets.load_dataset("kmnist", root)
    assert {path.name: path.read_bytes() for path in raw.glob("*-ubyte")} == OFFICIAL
    assert list(raw.glob("*.partial")) == []
    assert (len(train_data), len(test_data), warning) == (30, 20, None)
    image, label = train_data[7]
    assert (255 * image).byte().numpy().tobytes() == OFFICIAL[IMAGES][16 + 7 * 784 :][:784]
    assert label == OFFICIAL[LABELS][8 + 7]


def error_of(name, root):
    """Return the one line that loading the dataset ends with."""
    with pytest.raises(SystemExit) as end:
        datasets.load_dataset(name, root)
    line = end.value.code
    assert line.startswith("[ERROR] ")
    assert line.isprintable()
    return line


@pytest.mark.parametrize("name", ["good", "redirect", "slow"])
def test_good_mirror(name, mirror, server, tmp_path):
    datasets.MIRRORS[:] = [mirror(name), mirror("404")]
    datasets.load_dataset("auto", tmp_path)
    assert "404" not in server.asked
    assert_official(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_second_mirror_helps_where_the_first_fails(fault, mirror, server, tmp_path):
    datasets.MIRRORS[:] = [mirror(fault), mirror("good")]
    datasets.load_dataset("kmnist", tmp_path)
    assert_official(tmp_path)
    # the first failed for the first of four files and was left alone from then on; a file is asked
    # for twice, and urllib follows a circle for a while
    assert server.asked.count(fault) <= (2 if "circle" not in fault else 20)


def test_all_mirrors_fail(mirror, monkeypatch, tmp_path):
    datasets.MIRRORS[:] = [mirror(fault) for fault in FAULTS]
    line = error_of("kmnist", tmp_path)
    for address in datasets.MIRRORS:
        assert address in line
    for words in ("Connection refused", "404", "500", "no answer", "timed out", "not the whole"):
        assert words in line
    for words in (str(tmp_path / "KMNIST" / "raw"), "by hand", "--data", "--dataset printed"):
        assert words in line
    assert list(tmp_path.rglob("*-ubyte*")) == []

    # auto goes on with printed Hiragana and says the same; predict.py has no other images
    monkeypatch.setattr(datasets, "PrintedHiragana", lambda train: "printed")
    *images, warning = datasets.load_dataset("auto", tmp_path)
    assert images == ["printed", "printed"]
    assert warning.startswith("[WARNING] ")
    assert datasets.MIRRORS[-1] in warning
    with pytest.raises(SystemExit, match="--data"):
        datasets.load_test_images("kmnist", tmp_path)


def test_printed_asks_no_server(mirror, server, monkeypatch, tmp_path):
    datasets.MIRRORS[:] = [mirror("good")]
    monkeypatch.setattr(datasets, "PrintedHiragana", lambda train: "printed")
    assert datasets.load_dataset("printed", tmp_path) == ("printed", "printed", None)
    assert server.asked == list(tmp_path.iterdir()) == []


def test_checksums():
    """The real files cannot be here; at least no slip of a hand changes their SHA-256 unseen."""
    digests = "".join(datasets.SHA256[name] for name in OFFICIAL)
    assert hashlib.sha256(digests.encode()).hexdigest().startswith("d31741c295898b18")


@pytest.mark.parametrize("length", [0, 3, 16, 5000, len(OFFICIAL[IMAGES]) - 1])
def test_official_file_cut_short_is_fetched_again(length, mirror, tmp_path):
    make_raw(tmp_path, OFFICIAL | {IMAGES: OFFICIAL[IMAGES][:length]})
    datasets.MIRRORS[:] = [mirror("good")]
    datasets.load_dataset("kmnist", tmp_path)
    assert_official(tmp_path)


def test_archives_put_there_by_hand(mirror, tmp_path):
    raw = make_raw(tmp_path, PACKED)
    archive = raw / f"{LABELS}.gz"
    # one that did not arrive whole is of no use, one of the user's own is not what KMNIST's is for
    for content, words in [
        (PACKED[archive.name][:20], f"{archive}: damaged"),
        (OFFICIAL[LABELS], f"{archive}: damaged"),
        (gzip.compress(OWN[LABELS]), f"{archive} is not KMNIST's"),
    ]:
        archive.write_bytes(content)
        assert words in error_of("kmnist", tmp_path)
        assert archive.read_bytes() == content

    archive.write_bytes(PACKED[archive.name])
    datasets.load_dataset("kmnist", tmp_path)
    assert_official(tmp_path)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        *[(IMAGES, lambda b, n=n: b[:n], "within its header") for n in (0, 3, 4, 6, 8, 10, 12, 15)],
        *[(IMAGES, lambda b, n=n: b[:n], "its header asks for") for n in (16, 16 + 784, -1)],
        *[(LABELS, lambda b, n=n: b[:n], "within its header") for n in (0, 3, 4, 7)],
        *[(LABELS, lambda b, n=n: b[:n], "its header asks for") for n in (8, 9, -1)],
        (IMAGES, lambda b: b + b"\0", "its header asks for"),
        (LABELS, lambda b: b + b"\0", "its header asks for"),
        (IMAGES, lambda b: b[:4] + b"\xff\xff\xff\xff" + b[8:], "its header asks for"),
        (IMAGES, lambda b: b[:11] + b"\x1b" + b[12:], "27×28 pixels"),
        (IMAGES, lambda b: b[:15] + b"\x1d" + b[16:], "28×29 pixels"),
        (IMAGES, lambda b: b[:4] + bytes(4) + b[8:16], "holds nothing"),
        (LABELS, lambda b: b[:4] + bytes(4), "holds nothing"),
        (IMAGES, lambda b: OWN[LABELS] + bytes(8), "no file of images"),
        (LABELS, lambda b: OWN[IMAGES], "no file of labels"),
        (LABELS, lambda b: b"a text that somebody saved under this name", "no file of labels"),
        (LABELS, lambda b: b[:-1] + b"\x0a", "labels above 9"),
    ],
)
def test_damaged_file_of_a_users_own(name, damage, words, mirror, tmp_path):
    damaged = damage(OWN[name])
    raw = make_raw(tmp_path, OWN | {name: damaged})
    # the first few bytes may as well be those of KMNIST's, and are nobody's loss
    if not OFFICIAL[name].startswith(damaged):
        datasets.MIRRORS[:] = [mirror("good")]
    line = error_of("auto", tmp_path)
    assert str(raw / name) in line
    assert words in line
    assert "remove it" in line
    assert (raw / name).read_bytes() == damaged


def test_images_and_labels_that_do_not_match(mirror, tmp_path):
    make_raw(tmp_path, OWN | {LABELS: OFFICIAL[LABELS]})
    line = error_of("auto", tmp_path)
    assert "holds 12 images" in line
    assert f"{LABELS} 30 labels" in line


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_something_else_than_a_file(name, mirror, tmp_path):
    raw = make_raw(tmp_path, OFFICIAL)
    (raw / name).unlink()
    (raw / name).mkdir()
    assert f"{raw / name} cannot be read" in error_of("auto", tmp_path)
    if hasattr(os, "mkfifo"):
        (raw / name).rmdir()
        os.mkfifo(raw / name)
        assert f"{raw / name} cannot be read" in error_of("auto", tmp_path)


def test_test_images_need_no_others(mirror, tmp_path):
    make_raw(tmp_path, {name: content for name, content in OWN.items() if "t10k" in name})
    assert len(datasets.load_test_images("kmnist", tmp_path)) == 11


def test_files_that_look_like_leftovers_stay(mirror, tmp_path):
    raw = make_raw(tmp_path, OWN)
    leftover = raw / f"{IMAGES}.elsewhere.4711.partial.{'0a' * 16}.partial"
    own = [raw / f"{IMAGES}.gz.partial", raw / f"{IMAGES}.old.partial"]
    for path in (leftover, *own):
        path.touch()
        os.utime(path, (0, 0))
    datasets.load_dataset("kmnist", tmp_path)
    assert not leftover.exists()
    assert all(path.exists() for path in own)


# what follows runs as a process of its own, which takes addresses and checksums from its user
DRIVER = """
import json, os, signal, sys
from modules import cli, datasets

mirrors, sha256, last_step = json.loads(sys.argv.pop(1))
datasets.MIRRORS[:] = mirrors
datasets.SHA256.update(sha256)
steps = 0

def count_steps(event, arguments):
    global steps
    if event in ("open", "os.rename") and ".partial" in str(arguments[0]):
        steps += 1
        if steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count_steps)
if sys.argv[1:2] == ["train"]:
    del sys.argv[1]
    import train
    cli.run(train.main)
else:
    datasets.load_dataset("kmnist", sys.argv[1])
print(steps, "steps")
"""


def start_driver(mirrors, *arguments, last_step=0, prefix=()):
    settings = json.dumps([mirrors, SHA256, last_step])
    command = [*prefix, sys.executable, "-c", DRIVER, settings, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(no_proxy="*"),
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_killed_at_each_step_of_the_first_file(mirror, tmp_path):
    """A step opens or moves a temporary file: to download, to unpack, to put in place."""
    for step in range(1, 7):
        root = tmp_path / str(step)
        process = start_driver([mirror("good")], root, last_step=step)
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == -signal.SIGKILL, errors
        left = {path.name: path.read_bytes() for path in root.rglob("*-ubyte")}
        assert left.items() <= OFFICIAL.items(), "what has its final name is whole"

        for leftover in root.rglob("*.partial"):
            os.utime(leftover, (0, 0))
        datasets.MIRRORS[:] = [mirror("good")]
        datasets.load_dataset("kmnist", root)
        assert_official(root)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
def test_killed_in_the_middle_of_a_download(mirror, tmp_path):
    process = start_driver([mirror("half, then silence")], tmp_path)
    while not (leftovers := list(tmp_path.rglob("*.partial"))):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert list(tmp_path.rglob("*-ubyte")) == []

    datasets.MIRRORS[:] = [mirror("good")]
    datasets.load_dataset("kmnist", tmp_path)
    assert not any(leftover.exists() for leftover in leftovers)
    assert_official(tmp_path)


def test_two_runs_at_once(mirror, tmp_path):
    processes = [start_driver([mirror("slow")], tmp_path) for _ in range(2)]
    for process in processes:
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors
    assert_official(tmp_path)


@needs_setpriv
def test_read_only_folder(mirror, tmp_path):
    complete, empty = tmp_path / "complete", tmp_path / "empty"
    make_raw(complete, OFFICIAL).chmod(0o555)
    make_raw(empty, {}).chmod(0o555)

    def run(root):
        results = ["-m", tmp_path / "m.pth", "-p", tmp_path / "p.png"]
        process = start_driver(
            [mirror("good")], "train", "--dataset", "kmnist", "-d", root, "-e", 1, *results,
            prefix=NOT_ALMIGHTY,
        )  # fmt: skip
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess([], process.returncode, out, err)

    assert run(complete).returncode == 0
    assert_one_line(run(empty), 1, empty / "KMNIST" / "raw", "Permission denied", "--data")


def test_offline_auto_trains_on_printed_hiragana(tmp_path):
    model, plot = tmp_path / "model.pth", tmp_path / "plot.png"
    run = run_script(
        "train.py", "-d", tmp_path / "data", "-m", model, "-p", plot, "-e", 1, "--val-split", 0.9
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "6000 images to train on, 54000 to validate on, 10000 to test on" in run.stdout
    # why, before the training and again after the report
    first, second = run.stderr.splitlines()
    assert first == second
    assert first.startswith("[WARNING] ")
    for address in datasets.MIRRORS:
        assert address in first
    assert torch.load(model, weights_only=True)["dataset"] == "printed"
    assert not (tmp_path / "data").exists()

    # predict.py takes the dataset from the model, and needs nothing else
    run = run_script("predict.py", "-d", tmp_path / "data", "-m", model, "-o", tmp_path / "o.png")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("ground truth label") == 10


@pytest.mark.parametrize("disabled", ["", "SSE4.1,SSE4.2,AVX,AVX2,FMA3,FP16,AVX512-SKX"])
def test_printed_hiragana_is_the_same_on_every_machine(disabled):
    """OpenCV computes in other ways on other processors, and can be told to here."""
    script = (
        "import hashlib\n"
        "from modules.printed import draw_images\n"
        "images, labels = draw_images('おきすつなはまやれを', 500, seed=0)\n"
        "print(hashlib.sha256(images.tobytes() + bytes(labels.tolist())).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(OPENCV_CPU_DISABLE=disabled),
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith("82a2ff9e9ac62f1d"), run.stdout + run.stderr


def test_printed_hiragana():
    images, labels = draw_images("おきすつなはまやれを", 1000, seed=0)
    assert (images.shape, images.dtype) == ((1000, 28, 28), np.uint8)
    assert np.bincount(labels).tolist() == [100] * 10
    assert len({image.tobytes() for image in images}) == 1000
    # ink on paper: most of an image is dark, and all of them have light strokes
    assert np.median(images) < 40
    assert (images.max(axis=(1, 2)) > 120).mean() > 0.98


def without_opencv(tmp_path, *arguments):
    command = "import sys; sys.modules['cv2'] = None; from modules import cli; import train; "
    return subprocess.run(
        [sys.executable, "-c", command + "cli.run(train.main)", *map(str, arguments)]
        + ["-m", str(tmp_path / "m.pth"), "-p", str(tmp_path / "p.png")],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )


def test_kmnist_needs_no_opencv(data, tmp_path):
    run = without_opencv(tmp_path, "-d", data, "-e", 1)
    assert (run.returncode, run.stderr) == (0, "")
    assert_one_line(without_opencv(tmp_path, "--dataset", "printed"), 1, "OpenCV", "libgl1")
