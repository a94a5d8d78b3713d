"""Efficient attention of DAEFormer, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.plain.linear import Linear
from shared_attention.published import Adapter, adapts

__all__ = ["DaeformerEfficientAttention"]


@adapts("daeformer_efficient_attn", mechanism="linear")
class DaeformerEfficientAttention(Adapter):
    """Convolutions of one tap, channels first, on an image."""

    def build(self) -> nn.Module:
        given = self.given
        return Linear(
            given("in_channels"),
            rank=2,
            heads=given("head_count", 1),
            key_dim=given("key_channels"),
            value_dim=given("value_channels"),
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"keys": "k", "queries": "q", "values": "v", "reprojection": "proj"})
        return {name: value.flatten(1) if name.endswith("weight") else value for name, value in state.items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].movedim(1, -1)  # (B, H, W, C)
        return {"out.y": module(x).movedim(-1, 1)}
