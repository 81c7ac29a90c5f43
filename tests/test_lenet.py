import ast

import pytest
import torch
from conftest import ROOT

from modules.lenet import LeNet


def test_layers_are_the_tutorials_in_its_order():
    layers = list(LeNet(numChannels=1, classes=10).named_children())
    assert [name for name, _ in layers] == [
        "conv1", "relu1", "maxpool1", "conv2", "relu2", "maxpool2", "fc1", "relu3", "fc2",
        "logSoftmax",
    ]  # fmt: skip
    model = dict(layers)
    assert (model["conv1"].in_channels, model["conv1"].out_channels) == (1, 20)
    assert (model["conv2"].in_channels, model["conv2"].out_channels) == (20, 50)
    for name in ("conv1", "conv2"):
        assert (model[name].kernel_size, model[name].stride) == ((5, 5), (1, 1))
        assert model[name].padding == (0, 0)
    for name in ("maxpool1", "maxpool2"):
        assert (model[name].kernel_size, model[name].stride) == ((2, 2), (2, 2))
    assert (model["fc1"].in_features, model["fc1"].out_features) == (800, 500)
    assert (model["fc2"].in_features, model["fc2"].out_features) == (500, 10)


def test_number_of_parameters():
    model = LeNet(numChannels=1, classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 431_080


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 49)])
def test_forward_gives_log_probabilities(channels, classes):
    images = torch.rand(7, channels, 28, 28)
    log_probs = LeNet(channels, classes)(images)
    assert log_probs.shape == (7, classes)
    assert torch.allclose(log_probs.exp().sum(dim=1), torch.ones(7))


def test_forward_connects_the_layers_in_their_order():
    torch.manual_seed(0)
    model = LeNet(numChannels=1, classes=10)
    x = images = torch.rand(3, 1, 28, 28)
    for name, layer in model.named_children():
        x = layer(x.reshape(3, 800) if name == "fc1" else x)
    assert torch.equal(model(images), x)


def test_file_is_as_short_as_the_tutorial_says_and_needs_torch_alone():
    source = (ROOT / "modules" / "lenet.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports} == {"torch", "torch.nn"}
    assert {alias.name for node in imports for alias in node.names} == {
        "Module", "Conv2d", "Linear", "MaxPool2d", "ReLU", "LogSoftmax", "flatten",
    }  # fmt: skip
