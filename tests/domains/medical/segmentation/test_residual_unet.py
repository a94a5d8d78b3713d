"""The network takes any size, starts as if it had no mixer, and takes every mechanism that serves its axes."""

import pytest
import torch

from domains.medical.segmentation.network import MixerResidual, ResidualUNet
from shared_attention import build, cards

HALVES = {2: ((2, 2), (2, 2)), 3: ((2, 2, 2), (2, 2, 2))}


def make(rank: int, **options) -> ResidualUNet:
    torch.manual_seed(0)
    return ResidualUNet(1, 3, channels=(4, 8, 16), strides=HALVES[rank], **options)


@pytest.mark.parametrize(
    ("size", "strides"),
    [
        pytest.param((13, 7, 9), ((2, 2, 2), (2, 2, 2)), id="no axis divides"),
        pytest.param((8, 12, 16), ((2, 2, 2), (2, 2, 2)), id="all axes divide"),
        pytest.param((17, 16, 5), ((2, 2, 1), (2, 2, 1)), id="an axis is never halved"),
        pytest.param((33, 20), ((2, 2), (2, 2)), id="an image"),
    ],
)
def test_logits_have_the_size_of_the_image(size, strides):
    network = ResidualUNet(2, 3, channels=(4, 8, 16), strides=strides, depths=(1, 2, 1), supervised=2)
    image = torch.randn(2, 2, *size)
    with torch.inference_mode():
        assert network.eval()(image).shape == (2, 3, *size)
        full, half = network.train()(image)
    assert full.shape == (2, 3, *size)
    assert half.shape[2:] == tuple(-(-n // (a * b)) * b for n, a, b in zip(size, *strides, strict=True))


def test_every_parameter_learns():
    network = make(3, supervised=2)
    outputs = network(torch.randn(2, 1, 16, 12, 16))
    sum(output.square().mean() for output in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("rank", [2, 3])
def test_a_mixer_changes_nothing_before_training(rank):
    plain = make(rank).eval()
    mixed = make(rank, mixer=lambda channels: build("full", channels, rank=rank, heads=2), mixer_levels=(1, 2)).eval()
    assert sum(isinstance(module, MixerResidual) for module in mixed.modules()) == 2
    weights = dict(zip(plain.state_dict(), plain.state_dict().values(), strict=True))
    missing, unexpected = mixed.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert missing
    image = torch.randn(1, 1, *(16,) * rank)
    with torch.inference_mode():
        torch.testing.assert_close(mixed(image), plain(image))


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    "name", [card.name for card in cards().values() if card.kind in ("mixer", "gate") and "self" in card.patterns]
)
def test_every_mechanism_learns_at_the_bottleneck(name, rank):
    if rank not in cards()[name].ranks:
        pytest.skip(f"{name} does not serve grids of {rank} axes")
    network = make(rank, mixer=lambda channels: build(name, channels, rank=rank), mixer_levels=(2,))
    block = next(module for module in network.modules() if isinstance(module, MixerResidual))
    torch.nn.init.ones_(block.gain)
    (logits,) = network(torch.randn(2, 1, *(20,) * rank))
    logits.square().mean().backward()
    assert torch.isfinite(block.gain.grad).all()
    assert block.gain.grad.abs().sum() > 0
    parameters = list(block.mixer.parameters())
    assert not parameters or any(parameter.grad.abs().sum() > 0 for parameter in parameters)


def test_strides_must_fit_the_levels():
    with pytest.raises(ValueError, match="strides has 1 entries; 3 levels take 2"):
        ResidualUNet(1, 2, channels=(4, 8, 16), strides=((2, 2),))
