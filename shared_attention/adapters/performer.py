"""The performer of T2T-ViT, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.approximate.performer import PositiveFeatures
from shared_attention.mechanisms.plain.tokens_to_token import TokenBlock
from shared_attention.published import Adapter, adapts

__all__ = ["PERFORMER_NAMES", "TokenPerformer"]

PERFORMER_NAMES = {
    "kqv": "attention.kqv",
    "proj": "attention.proj",
    "w": "attention.directions",
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.0": "feed_forward.expand",
    "mlp.2": "feed_forward.contract",
}


@adapts("t2t_token_performer", mechanism="performer")
class TokenPerformer(Adapter):
    """Heads are one wide head; the values are the residual."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dp1", "dp2")
        dim, hidden = given("dim"), given("in_dim") * given("head_cnt", 1)
        return TokenBlock(PositiveFeatures(dim, hidden, ratio=given("kernel_ratio", 0.5)), dim, hidden)

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename(PERFORMER_NAMES)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}
