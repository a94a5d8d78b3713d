"""The block of PT-DiT that its authors gave to MindSpeed-MM, as published."""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.grids import merge, partition, shift_mask
from shared_attention.mechanisms.sparse.proxy_tokens import ProxyTokenBlock, ProxyTokens, SeparateAttention
from shared_attention.published import Adapter, adapts

__all__ = ["ProxyTokensTransformerBlock"]

_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh", "geglu"]] = {
    "gelu": "gelu",
    "gelu-approximate": "gelu_tanh",
    "geglu": "geglu",
}
_ATTENTIONS = {
    "proxy_attn1": "mixer.proxy_attention",
    "pvisual_attn2": "mixer.ask_attention",
    "attn1": "mixer.window_attention",
    "attn3": "mixer.shift_attention",
    "attn2": "text",
}
_NORMS = {
    "proxy_norm1": "mixer.proxy_norm",
    "norm_before": "mixer.ask_norm",
    "proxy_cross_norm": "mixer.answer_norm",
    "norm1": "mixer.window_norm",
    "shift_window_norm": "mixer.shift_norm",
    "norm2": "norm",
}
_REST = {
    "linear_1_visual": "mixer.ask_proj",
    "linear_2": "mixer.shift_proj",
    "ff.net.0.proj": "feed_forward.expand",
    "ff.net.2": "feed_forward.contract",
    "scale_shift_table": "table",
    "proxy_scale_shift_table": "shift_table",
}


@adapts("ptdit_proxy_block", mechanism="proxy_tokens")
class ProxyTokensTransformerBlock(Adapter):
    """Windows that were cut already, one below the other; their arrangement shows in the mask of the shift."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "num_embeds_ada_norm", "upcast_attention", "final_dropout", "attention_type")
        given.only("norm_type", "ada_norm_single")
        dim, heads, head_dim = given("dim"), given("num_attention_heads"), given("attention_head_dim")
        activation = given("activation_fn", "geglu")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation_fn={activation!r} is not served, only {', '.join(_ACTIVATIONS)}")
        bias, eps = given("attention_bias", False), given("norm_eps", 1e-5)
        self.affine = given("norm_elementwise_affine", True)
        self.window = tuple(given("compress_ratios"))
        fewer = given("proxy_compress_ratios")
        proxies = (1, *(size // count for size, count in zip(self.window[1:], fewer[1:], strict=True)))
        self.dim, self.shifted = dim, given("shift_window", False)
        mixer = ProxyTokens(
            dim,
            rank=3,
            heads=heads,
            head_dim=head_dim,
            window=self.window,
            proxies=proxies,
            shifted=self.shifted,
            qkv_bias=bias,
            eps=eps,
        )
        text = SeparateAttention(
            dim, heads=heads, head_dim=head_dim, context_dim=given("cross_attention_dim"), qkv_bias=bias
        )
        return ProxyTokenBlock(mixer, text, activation=_ACTIVATIONS[activation], eps=eps)

    def convert(self) -> dict[str, Tensor]:
        names = _NORMS | _REST
        for theirs, ours in _ATTENTIONS.items():
            names |= {f"{theirs}.to_{part}": f"{ours}.{part}" for part in "qkv"} | {
                f"{theirs}.to_out.0": f"{ours}.proj"
            }
        found = self.state.rename(names)
        if not self.affine:
            for theirs, ours in _NORMS.items():
                if theirs != "shift_window_norm" or self.shifted:
                    found |= {f"{ours}.weight": torch.ones(self.dim), f"{ours}.bias": torch.zeros(self.dim)}
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        hidden, text, time = (self.inputs[name] for name in ("hidden_states", "text", "timestep"))
        batch = text.shape[0]
        count = hidden.shape[0] // batch
        grid = self._arranged(count)
        x = merge(hidden.unflatten(0, (batch, count)), self.window, grid)  # (B, F, H, W, C)
        # The authors repeat (time of sample 1, 2, ...) over windows, where windows of sample 1 come first.
        condition = time.unflatten(-1, (6, -1)).repeat(count, 1, 1).unflatten(0, (batch, count))  # (B, G, 6, C)
        bias = self.inputs.get("text_bias")
        real = None if bias is None else bias.squeeze(1) > -5000.0  # (B, T)
        out = module(x, text, condition, text_mask=real)
        return {"out": partition(out, self.window).flatten(0, 1)}

    def _arranged(self, count: int) -> tuple[int, ...]:
        """The grid that so many windows make up: where they are shifted, the one whose mask is the one given."""
        fits = [one for one in product(range(1, count + 1), repeat=3) if one[0] * one[1] * one[2] == count]
        grids = [tuple(part * size for part, size in zip(one, self.window, strict=True)) for one in fits]
        if not self.shifted:
            return grids[0]
        mask = self.inputs.get("shift_mask")
        if mask is None:
            raise ValueError("shifted windows without shift_mask are not served")
        seen, shift = mask[:count] > -5000.0, [size // 2 for size in self.window]
        for grid in grids:
            if torch.equal(shift_mask(grid, self.window, shift, mask.device), seen):
                return grid
        raise ValueError("shift_mask is that of no arrangement of the windows")
