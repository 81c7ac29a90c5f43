import pytest
import torch

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
