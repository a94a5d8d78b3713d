"""RTA's block with token-aware pooling, and its loss, as published."""

from __future__ import annotations

from math import isqrt

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.adapters.window import rescaled
from shared_attention.blocks import Block
from shared_attention.chain import Chain
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.diversification import attention_diversification
from shared_attention.mechanisms.heads.token_aware_pooling import TokenAwarePooling
from shared_attention.norms import BatchNorm
from shared_attention.published import Adapter, adapts

__all__ = ["DiversificationLoss", "TapBlock"]


class _FeedForward(TokenMixer):
    """A linear layer, a depthwise convolution and a linear layer, each with a batch normalisation."""

    def __init__(self, dim: int, *, rank: int, hidden: int) -> None:
        super().__init__(dim, rank=rank)
        self.expand = nn.Linear(dim, hidden)
        self.expand_norm = BatchNorm(hidden)
        self.local = Convolution(hidden, hidden, rank=rank, groups=hidden)
        self.local_norm = BatchNorm(hidden)
        self.contract = nn.Linear(hidden, dim)
        self.contract_norm = BatchNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        inside = functional.gelu(self.expand_norm(self.expand(x), mask))
        inside = functional.gelu(self.local_norm(self.local(blank(inside, mask)), mask))
        return self.contract_norm(self.contract(inside), mask)


@adapts("rta_tap_block", mechanism="token_aware_pooling")
class TapBlock(Adapter):
    """Pooling, LayerNorm, attention, residual; LayerNorm, convolutional feed-forward part, residual; square images."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("drop", "attn_drop", "drop_path", "qk_scale")  # qk_scale goes into the weights
        dim = given("dim")
        gate = self.state("attn.att_mask") if given("use_mask", False) else None
        mixer = TokenAwarePooling(
            dim,
            rank=2,
            heads=given("num_heads"),
            scales=given("num_scales", 1),
            gated_tokens=None if gate is None else gate.shape[-1],
            qkv_bias=given("qkv_bias", False),
        )
        feed_forward = _FeedForward(dim, rank=2, hidden=int(dim * given("mlp_ratio", 4.0)))
        return Chain(Block(mixer, norm="none"), Block(feed_forward))

    def convert(self) -> dict[str, Tensor]:
        first, second = "mixers.0.mixer", "mixers.1.mixer"
        names = {"norm1": f"{first}.norm", "norm2": "mixers.1.norm1"}
        names |= {"attn.qkv": f"{first}.qkv", "attn.proj": f"{first}.proj", "attn.att_mask": f"{first}.gate"}
        for number, name in enumerate(("predict.conv", "predict_norm", "predict_again.conv")):
            names[f"dilation_predictor.proj.{number}"] = f"{first}.{name}"
        names |= {"mlp.fc1": f"{second}.expand", "mlp.dwconv": f"{second}.local.conv", "mlp.fc2": f"{second}.contract"}
        for number, name in enumerate(("expand", "local", "contract"), start=1):
            names[f"mlp.bn{number}"] = f"{second}.{name}_norm"
        found = self.state.rename(names)
        for name in (f"{second}.expand.weight", f"{second}.contract.weight"):
            found[name] = found[name].flatten(1)
        return rescaled(self.given, found, f"{first}.qkv")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, Chain)
        side = isqrt(self.inputs["x"].shape[1])
        x = self.inputs["x"].unflatten(1, (side, side))  # (B, H, W, C)
        mixer = module.get_submodule("mixers.0.mixer")
        assert isinstance(mixer, TokenAwarePooling)
        out = module(x).flatten(1, 2)
        scales = mixer.scale_weights(x).unsqueeze(1)  # (B, 1, H, W, K)
        return {"out": out, "out.x": out, "out.attn": mixer.attention_weights(x), "out.pred_scale": scales}


@adapts("rta_adl_loss", mechanism="token_aware_pooling")
class DiversificationLoss(Adapter):
    """A function of attention maps, without weights of its own."""

    def build(self) -> nn.Module:
        self.threshold = self.given("th", 2)
        return nn.Identity()

    def convert(self) -> dict[str, Tensor]:
        return {}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        layers = sorted((name for name in self.inputs if name.startswith("attn")), key=lambda name: int(name[4:]))
        return {"out": attention_diversification([self.inputs[name] for name in layers], threshold=self.threshold)}
