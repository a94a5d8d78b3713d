"""Swin's window attention and block, as published."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared_attention.adapters.scaling import scaled_queries
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.windows.window import Window
from shared_attention.published import Adapter, Given, adapts

__all__ = ["BLOCK_NAMES", "SwinBlock", "SwinWindowAttention", "pair", "rescaled"]

_NAMES = {"qkv": "qkv", "proj": "proj", "relative_position_bias_table": "position.table"}

BLOCK_NAMES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.fc1": "feed_forward.expand",
    "mlp.fc2": "feed_forward.contract",
}


def pair(value: Any) -> tuple[int, ...]:
    """One number an axis of an image, from one or two."""
    return (value, value) if isinstance(value, int) else tuple(value)


def rescaled(given: Given, state: dict[str, Tensor], layer: str) -> dict[str, Tensor]:
    """A state whose queries take up the `qk_scale` of a module with `dim` and `num_heads`."""
    dim = given("dim")
    return scaled_queries(state, layer, given("qk_scale", None), dim=dim, head_dim=dim // given("num_heads"))


@adapts("swin_window_attention", mechanism="window")
class SwinWindowAttention(Adapter):
    """Attention of windows that were cut already, with an additive mask for each window of an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop", "qk_scale")  # qk_scale goes into the weights
        return Window(
            given("dim"),
            rank=2,
            heads=given("num_heads"),
            window=pair(given("window_size")),
            qkv_bias=given("qkv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("relative_position_index")
        return rescaled(self.given, self.state.rename(_NAMES), "qkv")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, Window)
        x, mask = self.inputs["x"], self.inputs.get("mask")  # (B * G, n, C), (G, n, n); the window is the fast index
        bias = module.position()  # (H, n, n)
        if mask is None:
            return {"out": module.attend_windows(x[:, None], bias=bias)[:, 0]}
        windows = x.unflatten(0, (-1, mask.shape[0]))  # (B, G, n, C)
        return {"out": module.attend_windows(windows, bias=bias + mask[:, None]).flatten(0, 1)}


@adapts("swin_block", mechanism="window")
class SwinBlock(Adapter):
    """LayerNorm, shifted window attention, residual; LayerNorm, feed-forward, residual."""

    def sizes(self) -> tuple[int, int, int]:
        """Channels, window and shift; both axes shrink to the smaller side of the image, as the authors do."""
        given = self.given
        self.grid = pair(given("input_resolution"))
        window, shift = given("window_size", 7), given("shift_size", 0)
        if min(self.grid) <= window:
            window, shift = min(self.grid), 0
        return given("dim"), window, shift

    def build(self) -> nn.Module:
        given = self.given
        dim, window, shift = self.sizes()
        given.ignore("drop", "attn_drop", "drop_path", "fused_window_process", "qk_scale")  # that goes into the weights
        mixer = Window(
            dim, rank=2, heads=given("num_heads"), window=window, shift=shift, qkv_bias=given("qkv_bias", True)
        )
        return Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))))

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("attn_mask", "attn.relative_position_index")
        names = {f"attn.{theirs}": f"mixer.{ours}" for theirs, ours in _NAMES.items()} | BLOCK_NAMES
        return rescaled(self.given, self.state.rename(names), "mixer.qkv")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, self.grid)  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}
