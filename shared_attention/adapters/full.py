"""Plain multi-head attention of the CAB benchmark, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.mechanisms.plain.full import Full
from shared_attention.published import Adapter, adapts

__all__ = ["CabVanilla"]


@adapts("cab_vanilla", mechanism="full")
class CabVanilla(Adapter):
    """Tokens first, then the batch; True marks padding; a causal mask is given from outside."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "causal", "cross")  # the authors' class leaves masking to attn_mask
        return Full(
            given("embed_dim"), rank=1, heads=given("num_heads"), causal=self._causal(), qkv_bias=given("bias", True)
        )

    def _causal(self) -> bool:
        mask = self.inputs.get("attn_mask")
        if mask is None:
            return False
        seen = ~mask if mask.dtype == torch.bool else mask == 0
        if not torch.equal(seen, torch.ones_like(seen).tril()):
            raise ValueError("attn_mask is not the causal one")
        return True

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"q_proj": "q", "out_proj": "proj"})
        both = self.state.under("k_proj"), self.state.under("v_proj")
        return state | {f"kv.{name}": torch.cat([part[name] for part in both]) for name in both[0]}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        query, key = self.inputs["query"], self.inputs.get("key")
        padding = self.inputs.get("key_padding_mask")
        real = None if padding is None else ~padding.bool()
        x = query.transpose(0, 1)  # (B, L, C)
        context = (query if key is None else key).transpose(0, 1)  # (B, S, C); padded queries are computed too
        return {"out": module(x, context, context_mask=real).transpose(0, 1)}
