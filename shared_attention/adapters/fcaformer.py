"""A stage of FcaFormer, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.sparse.fcaformer import ForwardCross
from shared_attention.published import Adapter, adapts

__all__ = ["FcaLayer"]

_NAMES = {
    "norm1": "norm1",
    "qkv": "qkv",
    "proj": "proj",
    "gamma_1": "scale1",
    "gamma_2": "scale2",
    "dw_conv": "merge.conv",
    "s_norm": "cross_norm",
    "local_conv.c": "local.conv",
    "local_conv.bn": "local_norm",
    "norm2": "norm2",
    "mlp.norm": "norm3",
    "mlp.fc1": "feed_forward.expand",
    "mlp.fc2": "feed_forward.contract",
}


@adapts("fcaformer_layer", mechanism="fcaformer")
class FcaLayer(Adapter):
    """A line of the tokens of an image; the offsets of its biases are numbered row by row of the first token."""

    def build(self) -> nn.Module:
        given = self.given
        given.only("downsample", None)
        given.only("qk_scale", None)
        given.ignore("dim_out", "dp_rates", "drop", "attn_drop")
        self.grid = tuple(given("input_resolution"))
        self.depth = given("depth")
        return ForwardCross(
            given("dim_in"),
            rank=2,
            heads=given("num_heads"),
            depth=self.depth,
            grid=self.grid,
            reach=given("cab_max_d", 12),
            expansion=given("mlp_ratio", 4.0),
            layer_scale=given("layer_scale_init_value", 1e-6),
            qkv_bias=given("qkv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        coarse = [-(-size // 4) for size in self.grid]
        for number in range(self.depth):
            theirs, ours = f"blocks.{number}", f"layers.{number}"
            found |= self.state.rename({f"{theirs}.{name}": f"{ours}.{to}" for name, to in _NAMES.items()})
            found[f"{ours}.table"] = self.state(f"{theirs}.attention_biases").unflatten(-1, self.grid)
            if number:
                bias = self.state(f"{theirs}.s_token_bias").flatten(0, 2)  # (H, L * R)
                found[f"{ours}.cross_bias"] = bias.unflatten(-1, (-1, *coarse))
                found[f"{ours}.cross_scale"] = (
                    self.state(f"{theirs}.s_scale_factors").flatten().unflatten(0, (-1, *coarse))
                )
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].unflatten(1, self.grid)).flatten(1, 2)}
