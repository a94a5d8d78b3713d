"""Channel attention of DAEFormer, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.plain.xca import CrossCovariance
from shared_attention.published import Adapter, adapts

__all__ = ["DaeformerChannelAttention"]


@adapts("daeformer_channel_attn", mechanism="xca")
class DaeformerChannelAttention(Adapter):
    """Tokens in a line."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop")
        return CrossCovariance(given("dim"), rank=1, heads=given("num_heads", 8), qkv_bias=given("qkv_bias", False))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename({"temperature": "temperature", "qkv": "qkv", "proj": "proj"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out.y": module(self.inputs["x"])}
