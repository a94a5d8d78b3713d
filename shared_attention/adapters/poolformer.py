"""PoolFormer's block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.blocks import Block, FeedForward
from shared_attention.convolutions import channels_first, channels_last
from shared_attention.mechanisms.mixing.poolformer import NeighbourMean
from shared_attention.published import Adapter, adapts

__all__ = ["PoolformerBlock"]


@adapts("poolformer_block", mechanism="poolformer")
class PoolformerBlock(Adapter):
    """Channels first; linear layers are one-by-one convolutions."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("drop", "drop_path")
        dim, scaled = given("dim"), given("use_layer_scale", True)
        first = given("layer_scale_init_value", 1e-5)
        return Block(
            NeighbourMean(dim, rank=2, kernel=given("pool_size", 3)),
            FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))),
            norm="group",
            layer_scale=first if scaled else None,
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"norm1": "norm1", "norm2": "norm2", "layer_scale_1": "scale1", "layer_scale_2": "scale2"}
        names |= {"mlp.fc1": "feed_forward.expand", "mlp.fc2": "feed_forward.contract"}
        return {
            name: value.flatten(1) if value.ndim == 4 else value for name, value in self.state.rename(names).items()
        }

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": channels_first(module(channels_last(self.inputs["x"])))}
