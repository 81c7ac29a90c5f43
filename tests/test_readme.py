"""The README says what is so: its code, its flags, its commands, its links."""

import re
import shlex
import shutil
import subprocess
import sys

import cv2
from conftest import ROOT, environment
from test_pictures import character

from modules.lenet import LeNet

README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = ["train.py", "predict.py", *sorted(path.name for path in ROOT.glob("modules/*.py"))]


def read_source(name):
    folder = ROOT if name in ("train.py", "predict.py") else ROOT / "modules"
    return (folder / name).read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_code_is_in_the_files():
    code = [block for block in blocks("python") if not block.startswith("import")]
    assert len(code) >= 8
    for block in code:
        assert any(f"\n{block}" in read_source(name) for name in SOURCES), block


def test_program_for_your_own_image(trained, tmp_path, call_main):
    (program,) = (block for block in blocks("python") if block.startswith("import"))
    (tmp_path / "output").mkdir()
    shutil.copy(trained.model, tmp_path / "output" / "model.pth")
    cv2.imwrite(str(tmp_path / "photo.jpg"), character())
    env = environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    flags = ["-m", trained.model, "-i", tmp_path / "photo.jpg", "-o", tmp_path / "o.png"]
    flags += ["--no-display"]
    assert f"predicted label: {said.strip()} " in call_main("predict.py", *flags).stdout


def test_every_flag_that_is_spoken_of_exists(call_main):
    helps = [call_main(script, "--help").stdout for script in ("train.py", "predict.py")]
    known = set(re.findall(r"--[a-z-]+", " ".join(helps)))
    commands = [text for text in re.findall(r"`[^`\n]*`", README) if "benchmarks/" not in text]
    spoken_of = re.findall(r"(?<=[` ])--[a-z-]+", " ".join(commands))
    assert set(spoken_of) <= known


def test_pictures_and_links():
    links = re.findall(r"(!?)\[([^]]*)\]\(([^)]+)\)", README)
    assert len(links) >= 4
    for mark, text, target in links:
        assert len(text) > (60 if mark else 0)
        if not target.startswith("http"):
            assert (ROOT / target).stat().st_size < 300_000


def test_layout_names_every_file():
    layout = README[README.index("## Layout") :].split("## Credits")[0]
    for name in SOURCES:
        assert name == "__init__.py" or f" {name} " in layout


def test_the_two_commands():
    train, predict, test = (block.strip() for block in blocks("bash")[:3])
    for command in (train, test):
        assert command.startswith(
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
        )
        for word in shlex.split(command):
            assert not word.endswith((".py", ".txt")) or (ROOT / word).exists()
    assert predict.split()[-1] == "predict.py"
    # .ci/run takes the first line of the README that matches this
    pattern = re.search(r"grep -m 1 '([^']+)' README.md", (ROOT / ".ci" / "run").read_text())[1]
    assert next(line for line in README.splitlines() if pattern in line) == test


def test_layers_and_their_parameters():
    model = LeNet(numChannels=1, classes=10)
    rows = re.findall(r"^\| `(\w+)` \| [\d×]+ \| ([\d,]*) *\|", README, re.M)
    assert [name for name, _ in rows] == [name for name, _ in model.named_children()]
    for name, said in rows:
        layer = getattr(model, name)
        assert int(said.replace(",", "") or 0) == sum(p.numel() for p in layer.parameters())
    total = sum(parameters.numel() for parameters in model.parameters())
    assert f"{total:,} parameters" in README
