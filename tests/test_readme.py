"""The README says what is so: its code is the project's, its commands and programs run."""

from modules.lenet import LeNet

import re
import shlex
import shutil

import cv2
import pytest
import torch
from conftest import REAL_KMNIST, ROOT, character, run_python, run_script, skip_without_kmnist
from torch.nn.functional import max_pool2d

README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = ["train.py", "predict.py", *sorted(path.name for path in ROOT.glob("modules/*.py"))]


def read_lines(text):
    """Return the lines without their indentation, between line breaks."""
    return "\n" + "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


def blocks(language):
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.M | re.S)
    return [re.sub(f"^{indentation}", "", block, flags=re.M) for indentation, block in found]


def programs(word):
    """Return the README's programs that contain a word."""
    return [block for block in blocks("python") if "import " in block and word in block]


def run_program(program, folder):
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    run = run_script(path)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_code_is_in_the_files():
    paths = [
        ROOT / name if name in ("train.py", "predict.py") else ROOT / "modules" / name
        for name in SOURCES
    ]
    sources = [read_lines(path.read_text(encoding="utf-8")) for path in paths]
    code = [block for block in blocks("python") if "import " not in block]
    assert len(code) >= 2
    for block in code:
        assert any(read_lines(block) in source for source in sources), block


@pytest.mark.parametrize("word", ["tensor(1.0", 'load_dataset("synthetic").test', "named_children"])
def test_program_prints_what_the_readme_says(word, tmp_path):
    (program,) = programs(word)
    assert f"{program}```\n\n```text\n{run_program(program, tmp_path)}```" in README


def test_training_program_has_the_steps_of_train_py(data, tmp_path, call_main):
    (program,) = programs("step % 100")
    (tmp_path / "data").symlink_to(data)
    (tmp_path / "output").mkdir()
    said = run_program(program, tmp_path)
    (loss,) = re.findall(r"^step 0: loss ([\d.]+)$", said, re.M)
    assert 2.2 < float(loss) < 2.45, "an untrained network's"
    flags = ["-m", tmp_path / "output" / "try.pth", "-d", data, "-o", tmp_path / "o.png"]
    run = call_main("predict.py", *flags, "--no-display")
    assert run.returncode == 0 and run.stdout.count("predicted label") == 10
    # the lines of steps 3 to 5 are those of train.py, in the same order
    loop = read_lines(program[program.index("model.train()") :]).splitlines()
    lines = [line for line in loop if re.match(r"(model|log_probs|loss|optimizer)\b", line)]
    assert len(lines) == 6
    source = read_lines((ROOT / "train.py").read_text(encoding="utf-8"))
    rest = iter(source.splitlines())
    assert all(line in rest for line in lines)
    # the headings of the page, the program and train.py count the same steps
    steps = [1, 2, 3, 4, 5, 6]
    assert [int(n) for n in re.findall(r"^### (\d): ", README, re.M)] == steps
    assert [int(n) for n in re.findall(r"^ *# (\d): ", program, re.M)] == steps[:5]
    assert sorted(int(n) for n in re.findall(r"^# (\d): ", source, re.M)) == steps


def test_small_convolution():
    """The table of numbers holds for PyTorch's own layers."""
    (block,) = re.findall(r"^    image +kernel .*\n\n((?:    .*\n)+)", README, re.M)
    rows = [[int(n) for n in re.findall(r"-?\d+", line)] for line in block.splitlines()]
    image = torch.tensor([row[:3] for row in rows])[None, None]
    kernel = torch.tensor([row[3:5] for row in rows[:2]])[None, None]
    feature_map = torch.conv2d(image, kernel)
    assert feature_map.flatten().tolist() == rows[0][5:7] + rows[1][5:7]
    after_relu = feature_map.relu()
    assert after_relu.flatten().tolist() == rows[0][7:9] + rows[1][7:9]
    assert max_pool2d(after_relu.float(), 2).flatten().tolist() == rows[0][9:]


def test_program_for_your_own_image(trained, tmp_path, call_main):
    (program,) = programs("photo.jpg")
    (tmp_path / "output").mkdir()
    shutil.copy(trained.model, tmp_path / "output" / "modern.pth")
    cv2.imwrite(str(tmp_path / "photo.jpg"), character())
    line = run_program(program, tmp_path).strip()
    flags = ["-m", trained.model, "-i", tmp_path / "photo.jpg", "-o", tmp_path / "o.png"]
    flags += ["--no-display"]
    prediction = f"predicted label: {line}"
    assert prediction in call_main("predict.py", *flags).stdout


def test_program_that_tells_training_and_test_images_apart(tmp_path):
    skip_without_kmnist()
    (program,) = programs("order[:15_000]")
    (tmp_path / "data").symlink_to(REAL_KMNIST)
    # a short epoch instead of four takes less time, and is better than guessing, too
    short = program.replace("range(4)", "range(1)").replace("[:15_000].split", "[:8_000].split")
    said = run_program(short, tmp_path)
    assert 0.52 < float(re.search(r"tensor\(([\d.]+)\)", said)[1]) < 0.75


def test_commands_are_accepted(call_main):
    code = re.findall(r"`(python [^`]+)`", README) + "\n".join(blocks("bash")).splitlines()
    commands = [shlex.split(line) for line in code if re.match(r"python (train|predict)\.py", line)]
    assert len(commands) >= 8
    for _, script, *flags in commands:
        # the flags come first: argparse looks at them before it prints its help
        run = call_main(script, *flags, "--help")
        assert run.returncode == 0 and "usage" in run.stdout, run.stderr


def test_line_that_counts_parameters():
    (line,) = (line for line in blocks("bash") if "numel" in line)
    _, *words = shlex.split(line)
    assert f"`, {int(run_python(*words).stdout):,} numbers in LeNet" in README.replace("*", "`")


def test_pictures_and_links():
    links = re.findall(r"(!?)\[([^]]*)\]\(([^)]+)\)", README)
    assert len(links) >= 12
    headings = re.findall(r"^##+ (.*)$", README, re.M)
    anchors = ["#" + heading.lower().replace(" ", "-").replace(":", "") for heading in headings]
    for mark, text, target in links:
        assert len(text) > (60 if mark else 0)
        if target.startswith("#"):
            assert target in anchors
        elif not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).stat().st_size < 300_000


def test_layout_names_every_file():
    layout = README[README.index("## Layout") :].split("## Credits")[0]
    for name in SOURCES:
        assert name == "__init__.py" or f" {name} " in layout


def test_the_two_commands():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    for command, last in zip(commands, ("train.py", "pytest")):
        assert command.split()[-1] == last
        for word in shlex.split(command):
            assert not word.endswith((".py", ".txt")) or (ROOT / word).exists()
    # .ci/run takes the first line of the README that matches this
    pattern = re.search(r"grep -m 1 '([^']+)' README.md", (ROOT / ".ci" / "run").read_text())[1]
    assert next(line for line in README.splitlines() if pattern in line) == commands[1]
    assert len(commands) == 2


def test_layers_with_their_shapes_and_parameters():
    model, shapes = LeNet(numChannels=1, classes=10), {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, x, name=name: shapes.update({name: x.shape[1:]}))
    model(torch.zeros(2, 1, 28, 28))
    rows = re.findall(r"^\| `(\w+)` \| ([\d×]+) \| ([\d,]*) *\|", README, re.M)
    assert [name for name, _, _ in rows] == [name for name, _ in model.named_children()]
    for name, shape, parameters in rows:
        assert [int(size) for size in shape.split("×")] == list(shapes[name])
        count = sum(p.numel() for p in getattr(model, name).parameters())
        assert int(parameters.replace(",", "") or 0) == count
