"""CSWin's block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES, rescaled
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.windows.cswin import CSWin
from shared_attention.published import Adapter, adapts

__all__ = ["CSWinBlock"]


@adapts("cswin_block", mechanism="cswin")
class CSWinBlock(Adapter):
    """LayerNorm, cross-shaped windows, residual; LayerNorm, feed-forward, residual; on a square image."""

    def build(self) -> nn.Module:
        given = self.given
        dim, self.side, width = given("dim"), given("reso"), given("split_size", 7)
        given.ignore("drop", "attn_drop", "drop_path", "qk_scale")  # qk_scale goes into the weights
        last = given("last_stage", False) or self.side == width
        heads = given("num_heads")
        mixer = CSWin(
            dim,
            rank=2,
            heads=heads if last else heads // 2 * 2,
            width=None if last else width,
            qkv_bias=given("qkv_bias", False),
        )
        return Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))))

    def convert(self) -> dict[str, Tensor]:
        names = {"qkv": "mixer.qkv", "proj": "mixer.proj"}
        names |= {f"attns.{bar}.get_v": f"mixer.position.{bar}.conv" for bar in range(2)}
        return rescaled(self.given, self.state.rename(names | BLOCK_NAMES), "mixer.qkv")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, (self.side, self.side))  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}
