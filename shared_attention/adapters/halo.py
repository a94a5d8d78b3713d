"""timm's halo attention, as published."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.mechanisms.windows.halo import HaloAttention
from shared_attention.published import Adapter, adapts

__all__ = ["TimmHaloAttention"]


def _divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to the value, not more than a tenth below it."""
    near = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return near + divisor if near < 0.9 * value else near


@adapts("halo_attention", mechanism="halo")
class TimmHaloAttention(Adapter):
    """Channels first, on an image; a stride of two takes every second query, or pools what comes out."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("feat_size")
        dim, heads, block = given("dim"), given("num_heads", 8), given("block_size", 8)
        out = given("dim_out", None) or dim
        width, ratio = given("dim_head", None), given("qk_ratio", 1.0)
        stride = given("stride", 1)
        if stride not in (1, 2):
            raise ValueError(f"stride {stride} is not 1 or 2")
        self.pooled = given("avg_down", False) or block % stride != 0
        self.pooled = self.pooled and stride > 1
        return HaloAttention(
            dim,
            out,
            block=(block, block),
            halo=(given("halo_size", 3),) * 2,
            heads=heads,
            head_dim=width or _divisible(out * ratio, 8) // heads,
            stride=1 if self.pooled else stride,
            qkv_bias=given("qkv_bias", False),
            scale_positions=given("scale_pos_embed", False),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"q.bias": "q.bias", "kv.bias": "kv.bias"}
        names |= {"pos_embed.height_rel": "position.tables.0", "pos_embed.width_rel": "position.tables.1"}
        return self.state.rename(names) | {
            f"{name}.weight": self.state(f"{name}.weight").flatten(1) for name in ("q", "kv")
        }

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        out = module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)
        return {"out": functional.avg_pool2d(out, 2) if self.pooled else out}
