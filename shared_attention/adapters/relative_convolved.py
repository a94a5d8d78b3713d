"""RCMHA's attention, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.heads.relative_convolved import RelativeConvolved
from shared_attention.published import Adapter, adapts

__all__ = ["Rcmha"]


@adapts("rcmha", mechanism="relative_convolved")
class Rcmha(Adapter):
    """Tokens first, then the batch; a mask `(L or 1, S, B or 1)` says with one what is seen."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_prob")
        return RelativeConvolved(given("d_model"), rank=1, heads=given("heads"), reach=given("P", 4096))

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("key.1.conv.bias")  # it adds the same to all logits of a query
        names = {"key_pos_embeddings": "distance_key", "key_pos_bias": "distance_bias", "query_pos_bias": "query_bias"}
        names |= {"key.1.conv.weight": "k.conv.weight", "output": "proj"}
        for theirs, ours in (("query", "q"), ("key", "k"), ("value", "v")):
            names[f"{theirs}.0.linear"] = f"{ours}.linear"
        names |= {"query.1.conv": "q.conv", "value.1.conv": "v.conv"}
        return self.state.rename(names)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, RelativeConvolved)
        query, key, value = (self.inputs[name].transpose(0, 1) for name in ("q", "k", "v"))  # (B, L or S, C)
        mask = self.inputs.get("mask")
        visible = None if mask is None else mask.permute(2, 0, 1)[:, None] != 0  # (B or 1, 1, L or 1, S)
        return {"out": module.look(query, key, value, visible).transpose(0, 1)}
