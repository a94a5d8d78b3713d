"""iLLaMA's block, as published."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.adapters.window import rescaled
from shared_attention.blocks import Block
from shared_attention.mechanisms.heads.soft_causal import SoftCausal
from shared_attention.published import Adapter, adapts

__all__ = ["IllamaBlock"]


class _GatedFeedForward(nn.Module):
    """A linear layer through SiLU times another, then a third (SwiGLU), without biases."""

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.expand = nn.Linear(dim, hidden, bias=False)
        self.contract = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(functional.silu(self.gate(x)) * self.expand(x))


@adapts("illama_block", mechanism="soft_causal")
class IllamaBlock(Adapter):
    """RMSNorm, attention, residual; RMSNorm, gated feed-forward part, residual."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("drop", "attn_drop", "drop_path", "qk_scale")  # qk_scale goes into the weights
        dim = given("dim")
        unmasked = bool(self.inputs) and "mask" not in self.inputs
        mixer = SoftCausal(
            dim,
            rank=1,
            heads=given("num_heads"),
            softness=given("soft_mask_rate", 1.0 if unmasked else 0.0),
            qkv_bias=given("qkv_bias", False),
        )
        multiple = given("mlp_multiple_of", 256)
        hidden = int(2 * int(dim * given("mlp_ratio", 4.0)) / 3)
        feed_forward = _GatedFeedForward(dim, hidden=-(-hidden // multiple) * multiple)
        return Block(mixer, feed_forward, norm="rms", eps=1e-6)

    def convert(self) -> dict[str, Tensor]:
        names = {"attn.qkv": "mixer.qkv", "attn.proj": "mixer.proj", "norm1": "norm1", "norm2": "norm2"}
        names |= {"mlp.fc1": "feed_forward.gate", "mlp.fc3": "feed_forward.expand", "mlp.fc2": "feed_forward.contract"}
        found = self.state.rename(names)
        return rescaled(self.given, found, "mixer.qkv")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}
