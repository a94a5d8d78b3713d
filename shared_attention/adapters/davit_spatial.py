"""DaViT's spatial block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES
from shared_attention.blocks import Block, FeedForward
from shared_attention.contract import TokenMixer
from shared_attention.mechanisms.windows.davit_spatial import DavitSpatial
from shared_attention.published import Adapter, adapts

__all__ = ["DavitBlock", "DavitSpatialBlock"]


class DavitBlock(Adapter):
    """Convolution, LayerNorm, mixer, residual; convolution, LayerNorm, feed-forward, residual."""

    def block(self, mixer: TokenMixer) -> nn.Module:
        """The block around a mixer."""
        given = self.given
        given.ignore("drop_path")
        hidden = int(mixer.dim * given("mlp_ratio", 4.0))
        return Block(mixer, FeedForward(mixer.dim, hidden=hidden) if given("ffn", True) else None, encode=True)

    def convert(self) -> dict[str, Tensor]:
        names = {"attn": "mixer", "cpe.0.proj": "encode1.conv", "cpe.1.proj": "encode2.conv"}
        return self.state.rename(names | BLOCK_NAMES)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, tuple(self.call("size")))  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}


@adapts("davit_spatial_block", mechanism="davit_spatial")
class DavitSpatialBlock(DavitBlock):
    """The block with windows."""

    def build(self) -> nn.Module:
        given = self.given
        mixer = DavitSpatial(
            given("dim"),
            rank=2,
            heads=given("num_heads"),
            window=given("window_size", 7),
            border="zeros",
            qkv_bias=given("qkv_bias", True),
        )
        return self.block(mixer)
