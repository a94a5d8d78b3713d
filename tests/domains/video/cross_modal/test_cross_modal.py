"""The cross-modal transformer: shapes, what reaches the modal tokens, joints that were not seen, places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from domains.video.clip_action.encoders import FrameEncoder, SmallEncoder
from domains.video.cross_modal.block import sample_places
from domains.video.cross_modal.network import CrossModalNetwork
from domains.video.skeleton_action.figures import draw_clip
from domains.video.skeleton_action.predictor import ActionPrediction
from domains.video.skeletons.joints import joint_set
from pipelines.cases import Case
from shared_attention import record_attention


def network(**arguments: Any) -> CrossModalNetwork:
    torch.manual_seed(0)
    encoder = FrameEncoder(SmallEncoder((8, 16)), grid=(2, 3))
    return CrossModalNetwork(encoder, 3, **({"dim": 16, "depth": 2, "dropout": 0.0} | arguments))


def made(joints: int = 0) -> tuple[Tensor, Tensor | None]:
    """Features `(B, S, T, h, w, C)` and a pose `(B, T, J, 3)`."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 1 if joints else 2, 4, 2, 3, 16, generator=generator)
    if not joints:
        return features, None
    pose = torch.rand(2, 4, joints, 3, generator=generator)
    pose[..., 2] = 1
    return features, pose


@pytest.mark.parametrize("joints", [0, 7])
def test_logits_and_importances_have_their_shapes(joints: int) -> None:
    model = network(joints=joints).eval()
    features, pose = made(joints)
    output = model(features=features, pose=pose)
    assert output.logits.shape == (2, 3)
    assert output.attention.shape == (2, 4, 2, 3)
    assert output.joints.shape == (2, 4, joints or 6)
    torch.testing.assert_close(output.attention.sum((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(output.joints.sum((1, 2)), torch.ones(2))
    if not joints:
        torch.testing.assert_close(output.attention.flatten(2), output.joints)


def test_frames_and_their_partners_are_encoded() -> None:
    model = network().eval()
    rng = np.random.default_rng(0)
    frames, partners = torch.from_numpy(rng.integers(0, 256, (2, 1, 4, 32, 48, 3), dtype=np.uint8))
    torch.testing.assert_close(model(frames, partners).logits, model(features=model.features(frames, partners)).logits)


@pytest.mark.parametrize("joints", [0, 5])
def test_every_parameter_learns(joints: int) -> None:
    model = network(joints=joints)
    features, pose = made(joints)
    model(features=features, pose=pose).logits.square().sum().backward()
    # The last block's tokens of frames are looked at no more after the modal tokens have gathered.
    last = ("blocks.1.forwards.visual", "blocks.1.forwards.other", "blocks.1.norms.visual_forward")
    idle = ("encoder.", *last, "blocks.1.norms.other_forward")
    silent = [
        name
        for name, value in model.named_parameters()
        if (value.grad is None or not value.grad.any()) and not name.startswith(idle)
    ]
    assert silent == []


def test_both_modalities_reach_the_decision() -> None:
    model = network().eval()
    features, _ = made()
    base = model(features=features).logits
    for stream in (0, 1):
        other = features.clone()
        other[:, stream] += torch.randn_like(other[:, stream])
        assert (model(features=other).logits - base).abs().max() > 1e-3


def test_blanked_frames_leave_the_second_modality_to_decide() -> None:
    model, (features, _) = network(drop_rgb=0.999999), made()
    other = features.clone()
    other[:, 0] = torch.randn_like(other[:, 0])
    torch.testing.assert_close(model(features=features).logits, model(features=other).logits)
    other[:, 1] = torch.randn_like(other[:, 1])
    assert (model(features=features).logits - model(features=other).logits).abs().max() > 1e-3
    assert (model.eval()(features=features).logits - model(features=other).logits).abs().max() > 1e-3


def test_a_joint_that_was_not_seen_changes_nothing_and_counts_nothing() -> None:
    model = network(joints=5).eval()
    features, pose = made(5)
    assert pose is not None
    pose[:, 1:3, 2, 2] = 0
    base = model(features=features, pose=pose)
    moved = pose.clone()
    moved[:, 1:3, 2, :2] = torch.rand(2, 2, 2)
    torch.testing.assert_close(model(features=features, pose=moved).logits, base.logits)
    assert (base.joints[:, 1:3, 2] == 0).all()
    assert (base.joints[:, 0] > 0).all()
    pose[..., 2] = 0
    assert torch.isfinite(model(features=features, pose=pose).logits).all()


def test_visual_tokens_are_taken_where_joints_are() -> None:
    visual = torch.arange(2 * 3.0).view(1, 1, 2, 3, 1)  # rows × columns
    places = torch.tensor([[[[1 / 6, 0.25], [5 / 6, 0.75], [1 / 3, 0.25], [-1.0, 2.0]]]])
    torch.testing.assert_close(sample_places(visual, places).flatten(), torch.tensor([0.0, 5.0, 0.5, 3.0]))


def test_the_temporal_stride_doubles_from_block_to_block() -> None:
    model = network(depth=3)
    assert [block.frames.stride for block in model.blocks] == [1, 2, 4]
    with record_attention(model) as maps:
        model.eval()(features=made()[0])
    keys = {name: weights[0].shape[-1] for name, weights in maps.items() if name.endswith("frames")}
    assert list(keys.values()) == [24, 12, 6]  # four frames of six places


def test_what_it_was_not_built_for_is_refused() -> None:
    features, pose = made(5)
    with pytest.raises(ValueError, match="built for motion alone"):
        network()(features=made()[0], pose=pose)
    with pytest.raises(ValueError, match=r"pose None; this network was built for \(2, 4, 5, 3\)"):
        network(joints=5)(features=features)
    with pytest.raises(ValueError, match="neither frames nor features"):
        network()()


def test_joint_importances_are_drawn_beside_their_poses() -> None:
    joints = joint_set("lsp14")
    model = network(joints=14).eval()
    features, pose = made(14)
    assert pose is not None
    output = model(features=features, pose=pose)
    told = ActionPrediction(
        np.full(3, 1 / 3), output.joints[:1].detach().numpy(), pose[:1, ..., :2].numpy().astype(np.float32)
    )
    figure = draw_clip(Case("made", "made", {}, {"action": "a"}), told, joints, ("a", "b", "c"))
    assert figure.data is not None
    np.testing.assert_allclose(figure.data.drop(columns="frame").to_numpy(), output.joints[0].detach(), atol=1e-6)
