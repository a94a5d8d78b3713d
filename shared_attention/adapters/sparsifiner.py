"""Sparsifiner's attention, as published."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from shared_attention.adapters.scaling import scaled_queries
from shared_attention.mechanisms.sparse.sparsifiner import SparsifinerWithClassToken
from shared_attention.published import Adapter, Given, adapts

__all__ = ["SparsifinerAttention"]


@adapts("sparsifiner_attention", mechanism="sparsifiner")
class SparsifinerAttention(Adapter):
    """A line of tokens with the class token first; settings in `cfg`; several maps are given out."""

    def build(self) -> nn.Module:
        given, settings = self.given, Given(self.given("cfg", None) or {})
        given.ignore("attn_drop", "proj_drop", "qk_scale")  # qk_scale goes into the weights
        given.only("share_inout_proj", False, True)
        tokens = given("num_tokens", 197)
        self.prunes = given("token_pruning_this_layer", False)
        self.budget = ceil(given("token_keep_rate", 0.5) * (tokens - 1))
        self.prune_rows = settings("row", False)
        coefficients, keys = settings("topk_coef", False), settings("use_topk", False)
        few, least = settings("coefk", 8), settings("sthr", 0.0)
        if not keys and not least > 0:
            raise ValueError("cfg without use_topk and without sthr above zero is not served, as in the authors' code")
        module = SparsifinerWithClassToken(
            given("dim"),
            rank=1,
            heads=given("num_heads", 8),
            grid=tokens,
            landmarks=int(tokens // given("reduce_n_factor", 8)),
            reduction=given("reduce_c_factor", 2),
            keep=given("attn_keep_rate", 0.25),
            top_k=few if coefficients else None,
            coefficient_threshold=settings("thr", 0.0),
            score_threshold=None if keys else least,
            basis_threshold=settings("bthr", 0.0),
            qkv_bias=given("qkv_bias", False),
        )
        if unseen := settings.unseen():
            raise ValueError(f"entries of cfg that the adapter does not know: {', '.join(unseen)}")
        return module

    def convert(self) -> dict[str, Tensor]:
        names = {"qkv": "qkv", "proj": "proj", "mask_predictor.proj_n": "pooling"}
        names |= {"mask_predictor.proj_c_q": "narrow_q", "mask_predictor.proj_c_k": "narrow_k"}
        found = self.state.rename(names | {"mask_predictor.proj_back_n": "basis"})
        if self.given("share_inout_proj", False):
            found.setdefault("basis", found["pooling"])  # one parameter, which a file may hold once
        dim, scale = self.given("dim"), self.given("qk_scale", None)
        head_dim = dim // self.given("num_heads", 8)
        found = scaled_queries(found, "qkv", scale, dim=dim, head_dim=head_dim)
        if scale:  # the predictor sees the queries as they were
            found["narrow_q.weight"] = found["narrow_q.weight"] / (scale * head_dim**0.5)
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, SparsifinerWithClassToken)
        before = self.inputs.get("prev_token_mask")
        active = None if before is None else before.bool()
        found = module.together(self.inputs["x"], active, prune_rows=self.prune_rows)
        given = {
            "out.x": found.out,
            "out.attn_mask": found.chosen.to(found.scores.dtype),
            "out.masked_attn": found.weights,
            "out.approx_attn": found.scores,
        }
        if self.prunes:
            worth = found.weights[:, :, 0, 1:].mean(1)  # (B, n - 1)
            if active is not None:
                worth = worth.masked_fill(~active, float("-inf"))
            kept = worth.topk(self.budget, sorted=False).indices
            given["out.token_mask"] = torch.zeros_like(worth, dtype=torch.bool).scatter(-1, kept, True)
        elif before is not None:
            given["out.token_mask"] = before
        return given
