"""MaxViT's partitioned attention and what follows it, as published by its authors and by timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.adapters.window import BLOCK_NAMES, pair
from shared_attention.blocks import Activation, Block, FeedForward
from shared_attention.mechanisms.windows.maxvit import MaxViT
from shared_attention.published import Adapter, Given, adapts

__all__ = ["AuthorsPartitionAttention", "TimmPartitionAttention"]

_TIMM_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "hard_swish": "hardswish",
}
_AUTHORS_ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def _activation(known: Mapping[str, Activation], name: str) -> Activation:
    if name not in known:
        raise ValueError(f"the activation {name!r} is not served, only {', '.join(known)}")
    return known[name]


def _flipped(bias: Tensor) -> Tensor:
    """A table by key minus query `(H, 2h - 1, 2w - 1)` as one by query minus key `(L, H)`."""
    return bias.flip(1, 2).flatten(1).T


@adapts("maxvit_partition_attention", mechanism="maxvit")
class TimmPartitionAttention(Adapter):
    """LayerNorm, attention in blocks or grids, residual; LayerNorm, feed-forward, residual."""

    def build(self) -> nn.Module:
        given, config = self.given, self._config()
        dim, block = given("dim"), given("partition_type", "block") == "block"
        given.ignore("drop_path")
        window, grid = config("window_size"), config("grid_size", None)
        self.packed_by_head, self.heads = config("head_first", True), dim // config("dim_head", 32)
        self.position = config("rel_pos_type", "bias")
        if self.position not in ("bias", "bias_tf"):
            raise ValueError(f"rel_pos_type {self.position!r} is not served, only bias and bias_tf")
        self.plain = not config("attn_bias", True)
        mixer = MaxViT(
            dim,
            rank=2,
            heads=self.heads,
            window=pair(window if block or grid is None else grid),
            partition="block" if block else "grid",
            qkv_bias=not self.plain,
        )
        forward = FeedForward(
            dim,
            hidden=int(dim * config("expand_ratio", 4.0)),
            activation=_activation(_TIMM_ACTIVATIONS, config("act_layer", "gelu")),
        )
        built = Block(mixer, forward, layer_scale=config("init_values", None), eps=config("norm_eps", 1e-6))
        if unseen := config.unseen():
            raise ValueError(f"parts of cfg that the adapter does not know: {', '.join(unseen)}")
        return built

    def _config(self) -> Given:
        config = Given(self.given("cfg", {}))
        config.only("norm_layer_cl", "layernorm")
        config.ignore("attn_drop", "proj_drop", "partition_ratio", "pool_type", "rel_pos_dim", "shortcut_bias")
        config.ignore("expand_first", "norm_layer", "use_nchw_attn", "no_block_attn")  # of the parts around it
        return config

    def convert(self) -> dict[str, Tensor]:
        names = {"attn.qkv": "mixer.qkv", "attn.proj": "mixer.proj", "ls1.gamma": "scale1", "ls2.gamma": "scale2"}
        table = self.state("attn.rel_pos.relative_position_bias_table")
        state = self.state.rename(names | BLOCK_NAMES)
        state["mixer.position.table"] = _flipped(table) if self.position == "bias_tf" else table
        for name in ("mixer.qkv.weight", "mixer.qkv.bias"):
            if self.packed_by_head and name in state:  # by head and then by kind: we have it the other way round
                state[name] = state[name].unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        if self.plain:
            state["mixer.proj.bias"] = table.new_zeros(state["mixer.proj.weight"].shape[0])
        return state

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}


@adapts("maxvit_partition_attention_tf", mechanism="maxvit", tolerance=2e-5)
class AuthorsPartitionAttention(Adapter):
    """The same in the authors' layout: heads are axes of the weights, inputs come first."""

    def build(self) -> nn.Module:
        config = Given(self.given("config"))
        self.kind = self.given("kind", "block")
        dim, width = config("hidden_size"), config("head_size")
        sizes = {"block": config("window_size"), "grid": config("grid_size")}
        window = sizes[self.kind]
        heads = config("num_heads", None) or dim // width
        if heads * width != dim:
            raise ValueError(f"num_heads {heads} of head_size {width} are not the {dim} channels of hidden_size")
        self.size = window
        self.bias = config("rel_attn_type", "2d_multi_head")
        config.ignore("scale_ratio")  # the table is resized to the window, whatever it was
        config.ignore("dropatt", "dropout", "survival_prob", "pool_type", "pool_stride", "ln_dtype")
        config.ignore("kernel_initializer", "bias_initializer")
        forward = FeedForward(
            dim,
            hidden=int(dim * config("expansion_rate", 4)),
            activation=_activation(_AUTHORS_ACTIVATIONS, config("activation", "gelu")),
        )
        mixer = MaxViT(dim, rank=2, heads=heads, window=window, partition=self.kind)
        built = Block(mixer, forward, eps=config("ln_epsilon", 1e-5))
        if unseen := config.unseen():
            raise ValueError(f"parts of config that the adapter does not know: {', '.join(unseen)}")
        return built

    def convert(self) -> dict[str, Tensor]:
        last = "_1" if "attention_1.q.weight" in self.state else ""
        attention, forward = f"attention{last}", f"ffn{last}"
        parts = [f"{attention}.{part}" for part in "qkv"]
        heads = self.state(f"{attention}.q.weight").shape[1]
        entries: dict[str, Any] = {
            "mixer.qkv.weight": [self.state(f"{part}.weight").flatten(1).T for part in parts],
            "mixer.qkv.bias": [self.state(f"{part}.bias").flatten() for part in parts],
            "mixer.proj.weight": [self.state(f"{attention}.o.weight").flatten(0, 1).T],
            "mixer.proj.bias": [self.state(f"{attention}.o.bias")],
            "mixer.position.table": [self._table(attention, heads)],
            "feed_forward.expand.weight": [self.state(f"{forward}.expand_dense.weight").T],
            "feed_forward.expand.bias": [self.state(f"{forward}.expand_dense.bias")],
            "feed_forward.contract.weight": [self.state(f"{forward}.shrink_dense.weight").T],
            "feed_forward.contract.bias": [self.state(f"{forward}.shrink_dense.bias")],
        }
        for ours, theirs in (("norm1", f"attn_layer_norm{last}"), ("norm2", f"ffn_layer_norm{last}")):
            entries |= {f"{ours}.weight": [self.state(f"{theirs}.gamma")]}
            entries |= {f"{ours}.bias": [self.state(f"{theirs}.beta")]}
        return {name: torch.cat(values) for name, values in entries.items()}

    def _table(self, attention: str, heads: int) -> Tensor:
        span = 2 * self.size - 1
        if self.bias is None:
            return self.state(f"{attention}.q.bias").new_zeros(span**2, heads)
        bias = self.state(f"{attention}.relative_bias")
        bias = bias.expand(heads, *bias.shape[-2:]) if self.bias == "2d_single_head" else bias
        if bias.shape[-2:] != (span, span):
            bias = functional.interpolate(bias[None], (span, span), mode="bilinear", align_corners=False)[0]
        return _flipped(bias)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}
