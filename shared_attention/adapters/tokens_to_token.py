"""The token transformer and the module from image to tokens of T2T-ViT, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.performer import PERFORMER_NAMES
from shared_attention.mechanisms.plain.tokens_to_token import SoftSplits, TokenBlock, ValueAttention
from shared_attention.published import Adapter, adapts

__all__ = ["TokenTransformer", "TokensToTokenModule"]

_NAMES = {
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.fc1": "feed_forward.expand",
    "mlp.fc2": "feed_forward.contract",
}


@adapts("t2t_token_transformer", mechanism="tokens_to_token")
class TokenTransformer(Adapter):
    """The authors' code serves one head; its scale comes from the channels that go in."""

    def build(self) -> nn.Module:
        given = self.given
        given.only("num_heads", 1)
        given.ignore("drop", "attn_drop", "drop_path")
        dim, hidden = given("dim"), given("in_dim")
        attention = ValueAttention(
            dim, hidden, scale=given("qk_scale", None) or None, qkv_bias=given("qkv_bias", False)
        )
        return TokenBlock(attention, dim, hidden, feed_forward=int(hidden * given("mlp_ratio", 1.0)))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename(_NAMES)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}


@adapts("t2t_module", mechanism="tokens_to_token")
class TokensToTokenModule(Adapter):
    """Channels first, on an image; tokens come out in a line."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("img_size")
        given.only("tokens_type", "transformer", "performer")
        self.kind = given("tokens_type", "performer")
        return SoftSplits(
            given("in_chans", 3),
            given("embed_dim", 768),
            rank=2,
            hidden=given("token_dim", 64),
            attention=self.kind,
        )

    def convert(self) -> dict[str, Tensor]:
        inner = PERFORMER_NAMES if self.kind == "performer" else _NAMES
        names = {"project": "proj"}
        for number in (0, 1):
            names |= {f"attention{number + 1}.{theirs}": f"blocks.{number}.{ours}" for theirs, ours in inner.items()}
        return self.state.rename(names)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).flatten(1, -2)}
