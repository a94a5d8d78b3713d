"""An unofficial class of ELA, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.gates.ela import EfficientLocalAttention
from shared_attention.published import Adapter, adapts

__all__ = ["ElaUnofficial"]


@adapts("ela_unofficial", mechanism="ela")
class ElaUnofficial(Adapter):
    """Channels first, on an image; always sixteen groups to normalise and one channel a group to convolve."""

    def build(self) -> nn.Module:
        dim, kernel = self.given("channel"), self.given("kernel_size", 7)
        return EfficientLocalAttention(dim, rank=2, kernel=kernel, groups=dim, norm_groups=16)

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename({"conv": "conv", "gn": "norm"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}
