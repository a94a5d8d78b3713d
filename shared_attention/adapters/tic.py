"""TiC's convolution with attention, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.window import pair
from shared_attention.mechanisms.windows.tic import AttentionConvolution
from shared_attention.published import Adapter, adapts

__all__ = ["MsaConvolution"]


@adapts("tic_msaconv", mechanism="tic")
class MsaConvolution(Adapter):
    """Channels first, on an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "im2col_step")
        return AttentionConvolution(
            given("input_channel"),
            given("output_channel"),
            kernel=pair(given("kernel_size")),
            dilation=pair(given("dilation", 1)),
            stride=pair(given("stride", 1)),
            padding=pair(given("padding", 1)),
            bias=given("bias", False),
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"mlp": "mix.conv", "qkv_conv.bias": "qkv.bias"})
        return state | {"qkv.weight": self.state("qkv_conv.weight").flatten(1)}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}
