"""SHViT's attention and block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.blocks import Block
from shared_attention.chain import Chain
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.heads.single_head import SingleHead
from shared_attention.norms import BatchNorm
from shared_attention.published import Adapter, adapts

__all__ = ["ShvitAttention", "ShvitBlock"]

_NAMES = {
    "pre_norm": "norm",
    "qkv.c": "qkv",
    "qkv.bn": "qkv_norm",
    "proj.1.c": "proj",
    "proj.1.bn": "proj_norm",
}


class _Depthwise(TokenMixer):
    """A depthwise convolution and a batch normalisation."""

    def __init__(self, dim: int, *, rank: int) -> None:
        super().__init__(dim, rank=rank)
        self.conv = Convolution(dim, dim, rank=rank, groups=dim, bias=False)
        self.norm = BatchNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.norm(self.conv(x), mask)


class _FeedForward(TokenMixer):
    """Two linear layers on each token, each with a batch normalisation."""

    def __init__(self, dim: int, *, rank: int, hidden: int) -> None:
        super().__init__(dim, rank=rank)
        self.expand = nn.Linear(dim, hidden, bias=False)
        self.expand_norm = BatchNorm(hidden)
        self.contract = nn.Linear(hidden, dim, bias=False)
        self.contract_norm = BatchNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        inside = blank(self.expand_norm(self.expand(x), mask).relu(), mask)
        return self.contract_norm(self.contract(inside), mask)


class _Images(Adapter):
    """Channels first, on an image; all convolutions but the depthwise one are of size one."""

    def mixer(self) -> SingleHead:
        given = self.given
        return SingleHead(given("dim"), rank=2, partial=given("pdim"), key_dim=given("qk_dim"))

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}

    def renamed(self, names: dict[str, str]) -> dict[str, Tensor]:
        """The state under our names, with `(E, C, 1, 1)` as `(E, C)`."""
        found = self.state.rename(names)
        return {name: value.flatten(1) if value.shape[2:] == (1, 1) else value for name, value in found.items()}


@adapts("shvit_shsa", mechanism="single_head")
class ShvitAttention(_Images):
    """The attention alone."""

    def build(self) -> nn.Module:
        return self.mixer()

    def convert(self) -> dict[str, Tensor]:
        return self.renamed(_NAMES)


@adapts("shvit_block", mechanism="single_head")
class ShvitBlock(_Images):
    """Depthwise convolution, attention (in type `s`) and feed-forward part, each with a residual."""

    def build(self) -> nn.Module:
        given = self.given
        dim = given("dim")
        given.only("type", "s", "i")
        given.ignore("qk_dim", "pdim")  # read where the type has attention
        parts: list[TokenMixer] = [_Depthwise(dim, rank=2)]
        parts += [self.mixer()] if given("type") == "s" else []
        parts += [_FeedForward(dim, rank=2, hidden=2 * dim)]
        return Chain(*(Block(part, norm="none") for part in parts))

    def convert(self) -> dict[str, Tensor]:
        names = {"conv.m.c": "mixers.0.mixer.conv.conv", "conv.m.bn": "mixers.0.mixer.norm"}
        names |= {f"mixer.m.{theirs}": f"mixers.1.mixer.{ours}" for theirs, ours in _NAMES.items()}
        last = "mixers.2.mixer" if self.given("type") == "s" else "mixers.1.mixer"
        names |= {"ffn.m.pw1.c": f"{last}.expand", "ffn.m.pw1.bn": f"{last}.expand_norm"}
        names |= {"ffn.m.pw2.c": f"{last}.contract", "ffn.m.pw2.bn": f"{last}.contract_norm"}
        return self.renamed(names)
