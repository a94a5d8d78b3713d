"""The global dynamic convolution of TML, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.convolutions import channels_first, channels_last
from shared_attention.mechanisms.mixing.gdc import GlobalDynamicConvolution
from shared_attention.published import Adapter, adapts

__all__ = ["TmlGdc"]


@adapts("tml_gdc", mechanism="gdc")
class TmlGdc(Adapter):
    """Channels first; a pair of sizes makes the patch 5, whatever is asked for."""

    def build(self) -> nn.Module:
        given = self.given
        given.only("ks", 1)
        given.ignore("drop_path", "reduction")
        shape, patch = given("in_shape"), given("ps", 7)
        if not isinstance(shape, int):
            shape, patch = tuple(shape[:2]), 5
        return GlobalDynamicConvolution(given("dim"), rank=2, patch=patch, grid=shape)

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("ln")  # made and never used
        names = {"bias": "shift", "diff": "offset", "patch": "summary.conv", "lnnorm": "norm", "convk": "keys.conv"}
        project = {"project.weight": self.state("conv1.weight").flatten(1), "project.bias": self.state("conv1.bias")}
        return self.state.rename(names) | project

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": channels_first(module(channels_last(self.inputs["x"])))}
