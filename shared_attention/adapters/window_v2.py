"""Swin v2's window attention and block, as published."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES, SwinBlock, pair
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.windows.window_v2 import WindowV2
from shared_attention.published import Adapter, adapts

__all__ = ["SwinV2Block", "SwinV2WindowAttention"]

_NAMES = {
    "qkv": "qkv",
    "proj": "proj",
    "q_bias": "q_bias",
    "v_bias": "v_bias",
    "cpb_mlp": "position.network",
}
_TABLES = ("relative_coords_table", "relative_position_index")


def _trained(value: Any) -> tuple[int, ...] | None:
    sizes = pair(value)
    return sizes if sizes[0] > 0 else None


@adapts("swinv2_window_attention", mechanism="window_v2")
class SwinV2WindowAttention(Adapter):
    """Attention of windows that were cut already, with an additive mask for each window of an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop")
        return WindowV2(
            given("dim"),
            rank=2,
            heads=given("num_heads"),
            window=pair(given("window_size")),
            trained_window=_trained(given("pretrained_window_size", (0, 0))),
            qkv_bias=given("qkv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        self.state.drop(*_TABLES)
        return self.state.rename(_NAMES) | {"scale": self.state("logit_scale").flatten()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, WindowV2)
        x, mask = self.inputs["x"], self.inputs.get("mask")  # (B * G, n, C), (G, n, n); the window is the fast index
        bias = module.position()  # (H, n, n)
        if mask is None:
            return {"out": module.attend_windows(x[:, None], bias=bias)[:, 0]}
        windows = x.unflatten(0, (-1, mask.shape[0]))  # (B, G, n, C)
        return {"out": module.attend_windows(windows, bias=bias + mask[:, None]).flatten(0, 1)}


@adapts("swinv2_block", mechanism="window_v2")
class SwinV2Block(SwinBlock):
    """Shifted window attention, LayerNorm, residual; feed-forward, LayerNorm, residual."""

    def build(self) -> nn.Module:
        given = self.given
        dim, window, shift = self.sizes()
        given.ignore("drop", "attn_drop", "drop_path")
        mixer = WindowV2(
            dim,
            rank=2,
            heads=given("num_heads"),
            window=window,
            shift=shift,
            trained_window=_trained(given("pretrained_window_size", 0)),
            qkv_bias=given("qkv_bias", True),
        )
        hidden = int(dim * given("mlp_ratio", 4.0))
        return Block(mixer, FeedForward(dim, hidden=hidden), placement="post")

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("attn_mask", *(f"attn.{table}" for table in _TABLES))
        names = {f"attn.{theirs}": f"mixer.{ours}" for theirs, ours in _NAMES.items()}
        scale = {"mixer.scale": self.state("attn.logit_scale").flatten()}
        return self.state.rename(names | BLOCK_NAMES) | scale
