"""cosFormer of the CAB benchmark, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.cab import Cab
from shared_attention.mechanisms.approximate.cosformer import CosFormer
from shared_attention.published import adapts

__all__ = ["CabCosformer"]


@adapts("cab_cosformer", mechanism="cosformer")
class CabCosformer(Cab):
    """The authors' class does not look at its padding mask."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "cross")
        for name, allowed in (("causal", False), ("has_outproj", True), ("act_fun", "relu")):
            given.only(name, allowed)
        given.only("kdim", None)
        given.only("vdim", None)
        return CosFormer(given("embed_dim"), rank=1, heads=given("num_heads"))

    def convert(self) -> dict[str, Tensor]:
        kv = {f"kv.{name}": value for name, value in self.joined("k_proj", "v_proj").items()}
        return self.state.rename({"q_proj": "q", "out_proj": "proj"}) | kv

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x, context, _ = self.context()
        return {"out": module(x, context).transpose(0, 1)}
