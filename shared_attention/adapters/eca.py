"""ECA's layer, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.gates.eca import EfficientChannelAttention
from shared_attention.published import Adapter, adapts

__all__ = ["EcaLayer"]


@adapts("eca", mechanism="eca")
class EcaLayer(Adapter):
    """Channels first, on an image."""

    def build(self) -> nn.Module:
        return EfficientChannelAttention(self.given("channel"), rank=2, kernel=self.given("k_size", 3))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename({"conv": "conv"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].movedim(1, -1)  # (B, H, W, C)
        return {"out": module(x).movedim(-1, 1)}
