from modules.lenet import LeNet

import pytest
import torch
from torch.nn import Conv2d, Linear, LogSoftmax, MaxPool2d, ReLU


def test_layers_are_the_tutorials_in_its_order():
    pool = MaxPool2d(kernel_size=(2, 2), stride=(2, 2))
    expected = {
        "conv1": Conv2d(1, 20, (5, 5)), "relu1": ReLU(), "maxpool1": pool,
        "conv2": Conv2d(20, 50, (5, 5)), "relu2": ReLU(), "maxpool2": pool,
        "fc1": Linear(800, 500), "relu3": ReLU(),
        "fc2": Linear(500, 10), "logSoftmax": LogSoftmax(dim=1),
    }  # fmt: skip
    layers = dict(LeNet(numChannels=1, classes=10).named_children())
    assert str(layers) == str(expected)


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 49)])
def test_forward_connects_the_layers_in_their_order(channels, classes):
    model = LeNet(channels, classes)
    x = images = torch.rand(7, channels, 28, 28)
    for name, layer in model.named_children():
        x = layer(x.reshape(7, 800) if name == "fc1" else x)
    assert x.shape == (7, classes)
    assert torch.equal(model(images), x)
