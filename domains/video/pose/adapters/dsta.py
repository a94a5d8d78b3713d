"""DSTA's network and its loss as released."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from domains.video.pose.dsta import SpaceTimeAggregation
from domains.video.pose.flow import ResidualFlow
from domains.video.pose.loss import flow_term, residual_likelihood_loss
from domains.video.pose.network import SpaceTimePose
from shared_attention.published import Adapter, adapts

__all__ = ["Dsta", "DstaLoss"]

_BRANCHES = {"Spatial_blocks": "space", "blocks": "time"}


@adapts("dsta", mechanism="video/pose/dsta", tolerance=1e-5)
class Dsta(Adapter):
    """The encoder of the reference is one convolution; frames come stacked on the channels."""

    def build(self) -> nn.Module:
        given = self.given
        size, groups = (int(number) for number in str(given("group_order")).split("x"))
        dim, channels = given("embed_dim"), given("backbone_dim")
        aggregation = SpaceTimeAggregation(
            given("num_joints"),
            dim,
            frames=given("num_frame"),
            groups=[range(size * number, size * (number + 1)) for number in range(groups)],
            order=given("joint_order"),
            depth=given("depth"),
            heads=given("heads"),
            expansion=given("mlp_ratio"),
        )
        encoder = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU())
        return SpaceTimePose(encoder, channels, aggregation, dim=dim)

    def convert(self) -> dict[str, Tensor]:
        state = self.state
        converted = state.rename(
            {
                "preact.conv": "encoder.0",
                "fc_coord.linear": "tokens.project.linear",
                "Spatial_pos_embed": "aggregation.space_place",
                "Spatial_norm": "aggregation.space_norm",
                "Temporal_norm": "aggregation.time_norm",
                "head_coord": "coordinates",
                "head_sigma": "sigma",
            }
        )
        converted["aggregation.time_place"] = state("Temporal_pos_embed")[0]
        converted["aggregation.mix.weight"] = state("weighted_mean.weight").flatten(1)
        converted["aggregation.mix.bias"] = state("weighted_mean.bias")
        for theirs, ours in _BRANCHES.items():
            for number in range(self.given("depth")):
                converted |= self._block(f"{theirs}.{number}", f"aggregation.{ours}.{number}")
        # The reference was saved without the density that only training needs.
        return converted | {f"flow.{name}": value for name, value in ResidualFlow().state_dict().items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        stacked = self.inputs["x"]
        frames = stacked.reshape(len(stacked), -1, 3, *stacked.shape[2:])  # (B, T, 3, H, W)
        output = module(frames)
        return {
            "out.joint_tokens": output.tokens.transpose(0, 1),
            "out.pred_jts": output.coordinates,
            "out.sigma": output.sigma,
            "out.score": output.score.unsqueeze(-1),
        }

    def _block(self, theirs: str, ours: str) -> dict[str, Tensor]:
        table = {
            "norm1": "norm1",
            "norm2": "norm2",
            "mlp.fc1": "feed_forward.expand",
            "mlp.fc2": "feed_forward.contract",
        }
        table["attn.proj"] = "mixer.proj"
        converted = self.state.rename({f"{theirs}.{name}": f"{ours}.{mine}" for name, mine in table.items()})
        for kind in ("weight", "bias"):
            q, k, v = self.state(f"{theirs}.attn.qkv.{kind}").chunk(3)
            converted |= {f"{ours}.mixer.q.{kind}": q, f"{ours}.mixer.kv.{kind}": torch.cat([k, v])}
        return converted


@adapts("dsta_rle", mechanism="video/pose/rle", tolerance=1e-5)
class DstaLoss(Adapter):
    """The flow and the loss, with the mean of the prior that the release has."""

    def build(self) -> nn.Module:
        return ResidualFlow(prior_mean=self.given("prior_mean"))

    def convert(self) -> dict[str, Tensor]:
        state = self.state
        state.drop("loc", "cov", "mask")  # constants, checked by the outputs
        layers = {f"s.{number}": f"scales.{number}" for number in range(6)}
        return state.rename(layers | {f"t.{number}": f"shifts.{number}" for number in range(6)})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, ResidualFlow)
        coordinates, sigma, target, weight = (
            self.inputs[name] for name in ("pred_jts", "sigma", "target", "target_weight")
        )
        residual = (coordinates - target) / sigma
        z, determinant = module.to_normal(residual.reshape(-1, 2))
        return {
            "out.bar_mu": residual,
            "out.z": z,
            "out.log_det": determinant,
            "out.log_prob": module.log_density(residual.reshape(-1, 2)),
            "out.nf_loss": flow_term(coordinates, sigma, target, module),
            "out.loss": residual_likelihood_loss(coordinates, sigma, target, weight, module),
        }
