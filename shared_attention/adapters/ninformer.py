"""NiNformer's block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.mixing.ninformer import MixerGate
from shared_attention.published import Adapter, adapts

__all__ = ["NinformerBlock"]


@adapts("ninformer_block", mechanism="ninformer")
class NinformerBlock(Adapter):
    """Tokens in a row, as many as the weights are for; both norms of the block are one."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout")
        dim, hidden = given("d_model"), given("d_ffn")
        block = Block(MixerGate(dim, rank=1, grid=given("seq_len"), hidden=hidden), FeedForward(dim, hidden=hidden))
        block.norm2 = block.norm1
        return block

    def convert(self) -> dict[str, Tensor]:
        mixer = "mgu.Mixer."
        names = {
            "norm": "norm1",
            "mgu.proj": "mixer.project",
            f"{mixer}token_mix.0": "mixer.token_norm",
            f"{mixer}token_mix.2.net.0": "mixer.gather",
            f"{mixer}token_mix.2.net.3": "mixer.spread",
            f"{mixer}channel_mix.0": "mixer.channel_norm",
            f"{mixer}channel_mix.1.net.0": "mixer.channels.expand",
            f"{mixer}channel_mix.1.net.3": "mixer.channels.contract",
            "ffn.net.0": "feed_forward.expand",
            "ffn.net.3": "feed_forward.contract",
        }
        return self.state.rename(names) | self.state.rename({"norm": "norm2"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}
