"""LARA of the CAB benchmark, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.cab import Cab
from shared_attention.mechanisms.approximate.lara import LinearRandomised
from shared_attention.published import adapts

__all__ = ["CabLara"]


@adapts("cab_lara", mechanism="lara")
class CabLara(Cab):
    """Self-attention alone."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout")
        given.only("causal", False)
        given.only("cross", False)
        return LinearRandomised(
            given("embed_dim"),
            rank=1,
            heads=given("num_heads"),
            landmarks=given("num_landmarks", 16),
            qkv_bias=given("bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        qkv = {f"qkv.{name}": value for name, value in self.joined("q_proj", "k_proj", "v_proj").items()}
        return self.state.rename({"out_proj": "proj"}) | qkv

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x, context, real = self.context()
        if context is not None or real is not None:
            raise ValueError("keys apart from the queries, and padding, are not served as published")
        return {"out": module(x).transpose(0, 1)}
