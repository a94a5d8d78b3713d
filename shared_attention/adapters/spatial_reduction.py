"""Spatial-reduction attention of SegFormer, as published in DAEFormer."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.plain.spatial_reduction import SpatialReduction
from shared_attention.published import Adapter, adapts

__all__ = ["SegformerAttention"]


@adapts("segformer_sr_attn", mechanism="spatial_reduction")
class SegformerAttention(Adapter):
    """Tokens in a line, beside the height and width of the image."""

    def build(self) -> nn.Module:
        given = self.given
        return SpatialReduction(given("dim"), rank=2, heads=given("head"), ratio=given("reduction_ratio"))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename(
            {"q": "q", "kv": "kv", "proj": "proj", "sr": "coarser.reduce.conv", "norm": "coarser.norm"}
        )

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        grid = int(self.inputs["H"]), int(self.inputs["W"])
        return {"out.y": module(self.inputs["x"].unflatten(1, grid)).flatten(1, 2)}
