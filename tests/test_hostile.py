"""A model file from a stranger: it is used, or refused in one line, and nothing else happens."""

import json
import random
import signal
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from io import BytesIO
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from conftest import assert_one_line

from modules.checkpoint import load_model
from modules.checkpoint import load_training
from modules.checkpoint import restore_training
from modules.lenet import LeNet


class Code:
    """Unpickled, it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return subprocess.check_call, (["touch", str(self.path)],)


def hugely(shape, value=0.0):
    """Return a tensor that takes four bytes and claims any size."""
    return torch.tensor([value]).as_strided(shape, [0] * len(shape))


def with_weights(name, weights):
    def change(checkpoint):
        checkpoint["model"][name] = weights

    return change


def with_entry(value, *keys):
    def change(checkpoint):
        *parents, last = keys
        for key in parents:
            checkpoint = checkpoint[key]
        checkpoint[last] = value

    return change


NAMES = list("abcdefghij")
# what a model file may claim, of which predict.py already makes nothing
WRONG_MODELS = {
    "NaN": with_weights("fc2.bias", torch.full((10,), float("nan"))),
    "infinite": with_weights("fc2.bias", torch.full((10,), float("inf"))),
    "another shape": with_weights("fc2.bias", torch.zeros(11)),
    "whole numbers": with_weights("fc2.bias", torch.zeros(10, dtype=torch.int64)),
    "sparse": with_weights("fc2.bias", torch.zeros(10).to_sparse()),
    "not there": with_weights("fc2.bias", torch.zeros(10, device="meta")),
    "no tensor": with_weights("fc2.bias", [0.0] * 10),
    "one layer more": with_weights("fc3.bias", torch.zeros(10)),
    "a billion classes": with_weights("fc2.bias", hugely((10**9,))),
    "class names, a billion": with_entry(hugely((10**9,)), "classes"),
    "class names with colours": with_entry([*NAMES[:9], "\x1b[31mred"], "classes"),
    "class names with lines": with_entry([*NAMES[:9], "a\n[ERROR] b"], "classes"),
    "class name, long": with_entry([*NAMES[:9], "a" * 10_000], "classes"),
    "class names that are numbers": with_entry(list(range(10)), "classes"),
    "too few class names": with_entry(NAMES[:9], "classes"),
    "classes, no list": with_entry(10, "classes"),
    "a dataset elsewhere": with_entry("../../elsewhere", "dataset"),
    "a dataset that is a list": with_entry([], "dataset"),
}
# what only --resume looks at
WRONG_TRAININGS = {
    "no history": lambda checkpoint: checkpoint.pop("history"),
    "history of text": with_entry("x" * 5, "history", "train_loss"),
    "history of a billion": with_entry(hugely((10**9,)), "history", "train_loss"),
    "history, uneven": with_entry([0.5], "history", "val_acc"),
    "history, not finite": with_entry([float("nan")] * 5, "history", "val_acc"),
    "epochs": with_entry(3, "epochs"),
    "epochs in text": with_entry("5", "epochs"),
    "settings, none": with_entry(None, "settings"),
    "settings, unknown": with_entry("x", "settings", "model"),
    "settings, a batch of 0": with_entry(0, "settings", "batch_size"),
    "settings, text": with_entry("64", "settings", "batch_size"),
    "settings, a learning rate that is none": with_entry(float("nan"), "settings", "lr"),
    "settings, a share above 1": with_entry(2.0, "settings", "val_split"),
    "settings, a flag that is a list": with_entry([], "settings", "augment"),
    "random state, short": with_entry(torch.zeros(8, dtype=torch.uint8), "random_state"),
    "random state, nonsense": with_entry(torch.full((5056,), 255).byte(), "random_state"),
    "images": with_entry("all", "checksum"),
    "images of a tensor": with_entry(torch.tensor([1, 2]), "checksum"),
    "images, none": lambda checkpoint: checkpoint.pop("checksum"),
    "optimizer, none": with_entry({}, "optimizer"),
    "optimizer, other groups": with_entry([], "optimizer", "param_groups"),
    "optimizer, no state": with_entry({}, "optimizer", "state"),
    "optimizer, shapes": with_entry(torch.zeros(3), "optimizer", "state", 0, "exp_avg"),
    "optimizer, NaN": with_entry(torch.tensor(float("nan")), "optimizer", "state", 0, "step"),
    "optimizer, text": with_entry("1e-3", "optimizer", "param_groups", 0, "lr"),
    "optimizer, switched": with_entry(True, "optimizer", "param_groups", 0, "capturable"),
}


@pytest.fixture
def changed(trained, tmp_path):
    """Save a changed copy of the good model file, and give its path."""

    def save(change):
        checkpoint = torch.load(trained.model)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / "m.pth")
        return tmp_path / "m.pth"

    return save


@pytest.mark.parametrize("name", WRONG_MODELS)
def test_wrong_model(name, changed, data, tmp_path, call_main):
    model = changed(WRONG_MODELS[name])
    run = call_main("predict.py", "-d", data, "-m", model, "-o", tmp_path / "o.png")
    assert_one_line(run, 1, model, "train.py")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pth"]


@pytest.mark.parametrize("name", WRONG_TRAININGS)
def test_wrong_training(name, changed, data, tmp_path, call_main):
    model = changed(WRONG_TRAININGS[name])
    before = model.read_bytes()
    run = call_main("train.py", "-d", data, "-m", model, "-p", tmp_path / "p.png", "--resume")
    assert_one_line(run, 1, model)
    assert model.read_bytes() == before
    assert load_model(model)[2] == "kmnist", "it is good enough to predict with"


def compressed(good):
    """Return the archive with its parts compressed, one of them 300 MB of zeros."""
    archive = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(good)) as source,
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for part in source.namelist():
            large = part.endswith("/data/0")
            target.writestr(part, bytes(300_000_000) if large else source.read(part))
    return archive.getvalue()


def overstated(good):
    """Return the archive with the size of a part set to nearly 4 GB in the directory."""
    entry = good.rindex(b"PK\x01\x02")
    return good[: entry + 20] + struct.pack("<2I", 2**32 - 9, 2**32 - 9) + good[entry + 28 :]


SPOILED = {
    "empty": lambda good: b"",
    "text": lambda good: b"hello\n",
    "cut": lambda good: good[:-1],
    "half": lambda good: good[: len(good) // 2],
    "zeros": lambda good: bytes(len(good)),
    "large": lambda good: good + bytes(40_000_000),
    "bomb": compressed,
    "overstated": overstated,
}


def test_spoiled_files(trained, tmp_path):
    paths = [tmp_path / f"{name}.pth" for name in SPOILED]
    for path in paths:
        path.write_bytes(SPOILED[path.stem](trained.model.read_bytes()))
    ends, memory = outcomes(paths)
    assert ends == ["refused"] * len(SPOILED)
    assert memory < 100


@pytest.mark.parametrize("flags", [["predict.py"], ["train.py", "--resume"]])
def test_code_in_a_model_file_is_not_run(flags, trained, data, tmp_path, call_main):
    model, proof = tmp_path / "model.pth", tmp_path / "proof"
    torch.save(torch.load(trained.model) | {"extra": Code(proof)}, model)
    torch.load(model, weights_only=False)
    assert proof.exists(), "the file is as hostile as it should be"
    proof.unlink()
    assert_one_line(call_main(*flags, "-d", data, "-m", model), 1, model)
    assert not proof.exists()


def corruptions(good):
    """Yield 400 damaged copies, with the kind of the damage."""
    rng = random.Random(0)
    with zipfile.ZipFile(BytesIO(good)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    tensors = [name for name in parts if "/data/" in name]

    def flip(content, count):
        content = bytearray(content)
        for _ in range(count):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(content)

    def splice(content):
        start, size = rng.randrange(len(content)), rng.choice([1, 4, 100, 5000])
        piece = start, start + size
        target = rng.randrange(len(content))
        return content[:target] + content[slice(*piece)] + content[target + rng.choice([0, size]) :]

    def repacked(name, content):
        """Return an archive that is whole, with right checksums, of another content."""
        archive = BytesIO()
        with zipfile.ZipFile(archive, "w") as target:
            for part, original in parts.items():
                target.writestr(part, content if part == name else original)
        return archive.getvalue()

    for _ in range(50):
        yield "bits", flip(good, rng.choice([1, 1, 8, 1000]))
        # headers, and the directory at the end
        yield "edges", flip(good[:4096], 3) + good[4096:-4096] + flip(good[-4096:], 3)
        yield "cut", good[: rng.randrange(len(good))]
        yield "splice", splice(good)
        yield "pickle, bits", repacked(pickled, flip(parts[pickled], rng.choice([1, 3])))
        yield "pickle, splice", repacked(pickled, splice(parts[pickled]))
        name = rng.choice(tensors)
        yield "tensor, bits", repacked(name, flip(parts[name], rng.choice([1, 100])))
        yield "tensor, cut", repacked(name, parts[name][: rng.randrange(len(parts[name]))])


def test_random_corruptions(trained, tmp_path):
    kinds, paths = [], []
    for number, (kind, content) in enumerate(corruptions(trained.model.read_bytes())):
        kinds.append(kind)
        paths.append(tmp_path / f"{number}.pth")
        paths[-1].write_bytes(content)
    ends, memory = outcomes(paths)
    table = Counter(zip(kinds, ends, strict=True))
    print(*sorted(table.items()), sep="\n")
    # checksums and sizes give these away; what is whole, and differs in content, may be good
    for kind in ("cut", "tensor, cut"):
        assert table[kind, "refused"] == 50
    for kind in ("bits", "edges", "splice"):
        assert table[kind, "refused"] >= 45
    assert table["tensor, bits", "goes on"] >= 40
    assert memory < 500


def outcomes(paths):
    """Load the files in a process of its own; return how each ended, and the MB that it took."""
    pytest.importorskip("resource", reason="Windows has no limits to measure by")
    command = [sys.executable, __file__, *map(str, paths)]
    run = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120
    )
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


def main(paths):
    import resource
    from pathlib import Path

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

    ends, before = [], peak()
    for path in map(Path, paths):
        # a file that makes it hang ends the process
        signal.alarm(10)
        try:
            end = "refused"
            model, classes, _ = load_model(path)
            assert type(model) is LeNet and all(name.isprintable() for name in classes)
            assert model(torch.zeros(1, 1, 28, 28)).shape == (1, len(classes))
            end = "loads"
            optimizer = torch.optim.Adam(model.parameters(), fused=True)
            training = load_training(path)
            images = SimpleNamespace(checksum=lambda training=training: training["checksum"])
            restore_training(path, training, images, model, optimizer)
            end = "goes on"
        except SystemExit as error:
            assert str(error).startswith(f"[ERROR] {path} "), error
            assert str(error).isprintable(), error
        ends.append(end)
    print(json.dumps([ends, peak() - before]))


if __name__ == "__main__":
    main(sys.argv[1:])
