"""DaViT's channel attention and block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.davit_spatial import DavitBlock
from shared_attention.mechanisms.heads.davit_channel import DavitChannel
from shared_attention.published import Adapter, adapts

__all__ = ["DavitChannelAttention", "DavitChannelBlock"]


@adapts("davit_channel_attention", mechanism="davit_channel")
class DavitChannelAttention(Adapter):
    """Tokens of a line."""

    def build(self) -> nn.Module:
        given = self.given
        return DavitChannel(given("dim"), rank=1, heads=given("num_heads", 8), qkv_bias=given("qkv_bias", False))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename({"qkv": "qkv", "proj": "proj"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}


@adapts("davit_channel_block", mechanism="davit_channel")
class DavitChannelBlock(DavitBlock):
    """The block with channel groups."""

    def build(self) -> nn.Module:
        given = self.given
        mixer = DavitChannel(given("dim"), rank=2, heads=given("num_heads"), qkv_bias=given("qkv_bias", False))
        return self.block(mixer)
