"""Encoders, pools and networks of clips: shapes, weights that sum to one, what is frozen, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from domains.video.clip_action.encoders import FrameEncoder, SmallEncoder, StagedEfficientNet
from domains.video.clip_action.mixer_settings import make_mixer, mixer_named
from domains.video.clip_action.network import SpaceTimeNetwork, TokenPool, place_code
from domains.video.clip_action.settings import ClipWorkflow
from pipelines.errors import ConfigurationError
from shared_attention import build, cards


def network(**arguments: Any) -> SpaceTimeNetwork:
    torch.manual_seed(0)
    encoder = FrameEncoder(SmallEncoder((8, 16)), grid=(2, 3))
    arguments = {"mixer": lambda dim: build("full", dim, rank=3), "dim": 16, "dropout": 0.0} | arguments
    return SpaceTimeNetwork(encoder, 3, **arguments)


def clips(frames: int = 4) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    made = torch.from_numpy(rng.integers(0, 256, (2, 2, frames, 32, 48, 3), dtype=np.uint8))
    return made[0], made[1]


@pytest.mark.parametrize("pool", ["mean", "max", "attention", "frames"])
@pytest.mark.parametrize(
    ("streams", "fusion"), [(("rgb",), "late"), (("rgb", "motion"), "early"), (("rgb", "motion"), "late")]
)
def test_logits_and_attention_have_their_shapes(pool: str, streams: tuple[str, ...], fusion: str) -> None:
    model = network(pool=pool, streams=streams, fusion=fusion).eval()
    frames, partners = clips()
    output = model(frames, partners if len(streams) > 1 else None)
    assert output.logits.shape == (2, 3)
    assert output.attention.shape == (2, 4, 2, 3)
    torch.testing.assert_close(output.attention.sum((1, 2, 3)), torch.ones(2))
    features = model.features(frames, partners if len(streams) > 1 else None)
    assert features.shape == (2, len(streams), 4, 2, 3, 16)
    torch.testing.assert_close(model(features=features).logits, output.logits)


def test_every_parameter_learns() -> None:
    model = network(streams=("rgb", "motion"), depth=2)
    model(*clips()).logits.square().sum().backward()
    # What is added to all scores of a softmax alike changes nothing: rounding decides whether that gradient is 0.
    idle = "pool.gated.score.bias"
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert [name for name in silent if not name.endswith(idle)] == []


def test_the_motion_stream_sees_what_changes_and_nothing_else() -> None:
    model = network(streams=("motion",)).eval()
    frames, partners = clips()
    brighter = frames // 2 + 40
    still = model(frames, frames).logits
    torch.testing.assert_close(model(brighter, brighter).logits, still)
    assert (model(frames, partners).logits - still).abs().max() > 1e-3
    with pytest.raises(ValueError, match="needs partners"):
        model(frames)


def test_order_in_time_counts_where_there_are_blocks_only() -> None:
    frames, _ = clips(6)
    for depth, differs in ((0, False), (1, True)):
        model = network(depth=depth, pool="mean").eval()
        apart = (model(frames).logits - model(frames.flip(1)).logits).abs().max()
        assert bool(apart > 1e-4) is differs


def test_a_pool_of_frames_finds_the_frame_that_stands_out() -> None:
    x = torch.zeros(1, 5, 2, 2, 4)
    x[0, 3] = 7.0
    pooled, weights = TokenPool(4, "frames")(x)
    torch.testing.assert_close(pooled, torch.tensor([[7.0] * 4 + [7 / 5] * 4]))
    assert weights.sum((2, 3)).argmax() == 3
    found, share = TokenPool(4, "max")(x)
    assert found.tolist() == [[7.0] * 4]
    assert share[0, 3].sum() == 1


@pytest.mark.parametrize("dim", [8, 16, 33])
def test_places_differ_on_every_axis(dim: int) -> None:
    code = place_code((4, 3, 5), dim)
    assert code.shape == (4, 3, 5, dim)
    flat = code.flatten(0, 2)
    apart = torch.cdist(flat, flat) + torch.eye(len(flat))
    assert apart.min() > 1e-4


def test_a_frozen_encoder_stays_as_it_is_from_the_start() -> None:
    encoder = FrameEncoder(StagedEfficientNet(stages=2, pretrained=False, frozen_stages=0), grid=(1, 1), frozen=True)
    assert encoder.channels == 24
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    made = encoder(clips()[0])
    assert not made.requires_grad
    encoder.train()
    encoder(clips()[0])
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    whole = StagedEfficientNet(pretrained=False)
    assert whole(torch.zeros(1, 3, 64, 64)).shape == (1, 1280, 2, 2)


def workflow(**model: Any) -> ClipWorkflow:
    data = {"format": "folders", "root": "videos"}
    return ClipWorkflow.model_validate(
        {"task": "video/clip-action", "name": "x", "data": data, "model": {"network": "space_time"} | model}
    )


def test_mixers_that_serve_no_volume_are_not_offered() -> None:
    with pytest.raises(ValueError, match="does not match any of the expected tags"):
        workflow(mixer={"name": "criss_cross_of_images"})
    flat = [card.name for card in cards().values() if card.kind == "mixer" and 3 not in card.ranks]
    for name in flat:
        with pytest.raises(KeyError):
            mixer_named(name)
    with pytest.raises(ConfigurationError, match=r"model.mixer: full cannot be built for 10 channels"):
        make_mixer(type(mixer_named("full"))(heads=4), 10)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="frozen random weights learn nothing"):
        workflow(encoder={"name": "efficientnet_lite0", "weights": "none"})
    with pytest.raises(ValueError, match="stands twice"):
        workflow(streams=("rgb", "rgb"))
