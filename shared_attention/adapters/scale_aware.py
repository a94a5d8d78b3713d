"""SMT's attention (of both kinds) and block, as published."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.blocks import Block
from shared_attention.chain import Chain
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.heads.scale_aware import ScaleAware
from shared_attention.published import Adapter, adapts

__all__ = ["SmtAttention", "SmtBlock"]


class _FeedForward(TokenMixer):
    """Two linear layers on each token, with a depthwise convolution added to what is between them."""

    def __init__(self, dim: int, *, rank: int, hidden: int) -> None:
        super().__init__(dim, rank=rank)
        self.expand = nn.Linear(dim, hidden)
        self.local = Convolution(hidden, hidden, rank=rank, groups=hidden)
        self.contract = nn.Linear(hidden, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        inside = blank(self.expand(x), mask)
        return self.contract(functional.gelu(inside + self.local(inside)))


class _Smt(Adapter):
    """Tokens `(B, H * W, C)`; the grid is given to the call."""

    def mixer(self) -> ScaleAware:
        given = self.given
        modulates = given("ca_attention", 1) == 1
        both = {True: given("ca_num_heads", 4), False: given("sa_num_heads", 8)}
        given.ignore("attn_drop", "proj_drop", "drop", "drop_path", "qk_scale")  # qk_scale goes into the weights
        return ScaleAware(
            given("dim"),
            rank=2,
            branch="modulation" if modulates else "attention",
            heads=both[modulates],
            ratio=given("expand_ratio", 2),
            qkv_bias=given("qkv_bias", False),
        )

    def convert_mixer(self, theirs: str, ours: str) -> dict[str, Tensor]:
        """State of the attention under the prefixes `theirs` and `ours`."""
        names = {"v": "inner.value", "s": "inner.modulator", "proj0": "inner.expand.conv", "bn": "inner.norm"}
        names |= {f"local_conv_{head + 1}": f"inner.local.{head}.conv" for head in range(self.given("dim"))}
        names |= {"q": "inner.q", "kv": "inner.kv", "local_conv": "inner.local.conv"}
        names |= {"proj1": "inner.join", "proj": "proj"}
        found = self.state.rename({f"{theirs}{old}": f"{ours}{new}" for old, new in names.items()})
        if (join := f"{ours}inner.join.weight") in found:
            found[join] = found[join].flatten(1)
        if (scale := self.given("qk_scale", None)) and f"{ours}inner.q.weight" in found:
            factor = scale * (self.given("dim") // self.given("sa_num_heads", 8)) ** 0.5
            found |= {name: value * factor for name, value in found.items() if name.startswith(f"{ours}inner.q.")}
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, (self.call("H"), self.call("W")))  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}


@adapts("smt_attention", mechanism="scale_aware")
class SmtAttention(_Smt):
    """Modulation (`ca_attention` 1) or attention."""

    def build(self) -> nn.Module:
        return self.mixer()

    def convert(self) -> dict[str, Tensor]:
        return self.convert_mixer("", "")


@adapts("smt_block", mechanism="scale_aware")
class SmtBlock(_Smt):
    """LayerNorm, modulation or attention, residual; LayerNorm, convolutional feed-forward part, residual."""

    def build(self) -> nn.Module:
        given = self.given
        first = given("layerscale_value", 1e-4)
        scale = first if given("use_layerscale", False) else None
        dim = given("dim")
        feed_forward = _FeedForward(dim, rank=2, hidden=int(dim * given("mlp_ratio", 4.0)))
        return Chain(Block(self.mixer(), layer_scale=scale), Block(feed_forward, layer_scale=scale))

    def convert(self) -> dict[str, Tensor]:
        names = {"norm1": "mixers.0.norm1", "norm2": "mixers.1.norm1"}
        names |= {"gamma_1": "mixers.0.scale1", "gamma_2": "mixers.1.scale1"}
        names |= {"mlp.fc1": "mixers.1.mixer.expand", "mlp.fc2": "mixers.1.mixer.contract"}
        names |= {"mlp.dwconv.dwconv": "mixers.1.mixer.local.conv"}
        return self.convert_mixer("attn.", "mixers.0.mixer.") | self.state.rename(names)
