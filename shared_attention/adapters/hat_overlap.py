"""HAT's overlapping cross-attention block, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES, pair, rescaled
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.windows.hat_overlap import HatOverlap
from shared_attention.published import Adapter, adapts

__all__ = ["OverlappingBlock"]


@adapts("hat_ocab", mechanism="hat_overlap")
class OverlappingBlock(Adapter):
    """LayerNorm, overlapping attention, residual; LayerNorm, feed-forward, residual."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("qk_scale")  # it goes into the weights
        dim, self.window, overlap = given("dim"), given("window_size"), given("overlap_ratio")
        self.grid = tuple(self.call("x_size", pair(given("input_resolution"))))
        self.wide = self.window + int(self.window * overlap)
        if (self.wide - self.window) % 2:
            raise ValueError(f"overlap_ratio {overlap} of window_size {self.window} is odd, the overlap has two sides")
        mixer = HatOverlap(
            dim,
            rank=2,
            heads=given("num_heads"),
            window=self.window,
            overlap=overlap,
            qkv_bias=given("qkv_bias", True),
        )
        return Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 2))))

    def convert(self) -> dict[str, Tensor]:
        names = {"qkv": "mixer.qkv", "proj": "mixer.proj"}
        table = self.state("relative_position_bias_table")  # (L, H)
        span = self.window + self.wide - 1
        offset = torch.arange(span) - (self.window - 1)  # of a key's place in its window from the query's in its own
        shifted = offset + self.window - self.wide + 1  # below zero for near keys: the index wraps around the table
        index = (shifted[:, None] * span + shifted).flatten() % len(table)
        state = rescaled(self.given, self.state.rename(names | BLOCK_NAMES), "mixer.qkv")
        return state | {"mixer.position.table": table[index]}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, self.grid)  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}
