"""HAT's hybrid attention block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES, SwinBlock, rescaled
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.windows.hat import Hat
from shared_attention.published import adapts

__all__ = ["HybridAttentionBlock"]

_WEIGHS = {"squeeze": "conv_block.cab.3.attention.1", "excite": "conv_block.cab.3.attention.3"}


@adapts("hat_hab", mechanism="hat")
class HybridAttentionBlock(SwinBlock):
    """Swin's block with convolutions beside the attention; index table and mask come with the call."""

    def build(self) -> nn.Module:
        given = self.given
        dim, window, shift = self.sizes()
        given.ignore("drop", "attn_drop", "drop_path", "qk_scale")  # qk_scale goes into the weights
        self.grid = tuple(self.call("x_size", self.grid))  # the block serves other images than it was built for
        mixer = Hat(
            dim,
            rank=2,
            heads=given("num_heads"),
            window=window,
            shift=shift,
            ratio=given("compress_ratio", 3),
            reduction=given("squeeze_factor", 30),
            weight=given("conv_scale", 0.01),
            qkv_bias=given("qkv_bias", True),
        )
        return Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))))

    def convert(self) -> dict[str, Tensor]:
        names = {f"attn.{part}": f"mixer.attention.{part}" for part in ("qkv", "proj")}
        names["attn.relative_position_bias_table"] = "mixer.attention.position.table"
        names |= {"conv_block.cab.0": "mixer.convolutions.first.conv"}
        names |= {"conv_block.cab.2": "mixer.convolutions.second.conv"}
        state = self.state.rename(names | BLOCK_NAMES)
        for ours, theirs in _WEIGHS.items():
            state[f"mixer.convolutions.{ours}.weight"] = self.state(f"{theirs}.weight").flatten(1)
            state[f"mixer.convolutions.{ours}.bias"] = self.state(f"{theirs}.bias")
        return rescaled(self.given, state, "mixer.attention.qkv")
