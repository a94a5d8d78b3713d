"""Local attention of the CAB benchmark, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.mechanisms.windows.local import Local
from shared_attention.published import Adapter, adapts

__all__ = ["CabLocal"]


@adapts("cab_local", mechanism="local")
class CabLocal(Adapter):
    """Tokens first, then the batch; True marks padding; the class leaves out an attention mask."""

    def build(self) -> nn.Module:
        given = self.given
        given.only("cross", False)
        given.ignore("dropout")
        return Local(
            given("embed_dim"),
            rank=1,
            heads=given("num_heads"),
            window=given("wsize", 15),
            causal=given("causal", False),
            qkv_bias=given("bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"out_proj": "proj"})
        parts = [self.state.under(f"{name}_proj") for name in "qkv"]
        return state | {f"qkv.{name}": torch.cat([part[name] for part in parts]) for name in parts[0]}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        padding = self.inputs.get("key_padding_mask")
        real = None if padding is None else ~padding.bool()
        return {"out": module(self.inputs["query"].transpose(0, 1), mask=real).transpose(0, 1)}
