"""CrossFormer's and CrossFormer++'s block, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.adapters.window import BLOCK_NAMES, pair, rescaled
from shared_attention.blocks import Block, FeedForward
from shared_attention.chain import Chain
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.windows.crossformer import CrossFormer
from shared_attention.positions import DynamicBias
from shared_attention.published import Adapter, adapts

__all__ = ["CoolingBlock", "CrossFormerBlock", "RowEncoding"]


class RowEncoding(TokenMixer):
    """Adds the normalised convolution of each row of an image, over its places and its channels (`use_cpe`).

    The published convolution takes images with their channels last for images with their rows as channels, so each row
    has a kernel of its own, three places wide and three channels long.

    Args:
        dim: Channels `C`.
        rows: Rows of the image, no other number is served.
    """

    def __init__(self, dim: int, *, rows: int) -> None:
        super().__init__(dim, rank=2)
        self.weight = nn.Parameter(torch.zeros(rows, 1, 3, 3))
        self.bias = nn.Parameter(torch.zeros(rows))
        self.norm = nn.LayerNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        around = functional.conv2d(x, self.weight, self.bias, padding=1, groups=x.shape[1])
        return x + self.norm(around)  # (B, H, W, C)


class CoolingBlock(TokenMixer):
    """A block, and after it a depthwise convolution with LayerNorm but no residual (CrossFormer++'s cooling layer).

    Args:
        block: The block.
    """

    def __init__(self, block: Block) -> None:
        super().__init__(block.dim, rank=block.rank)
        self.block = block
        self.cool = Convolution(block.dim, block.dim, rank=block.rank, kernel=3, groups=block.dim)
        self.norm = nn.LayerNorm(block.dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.norm(self.cool(blank(self.block(x, mask=mask), mask)))  # (B, *S, C)


@adapts("crossformer_block", mechanism="crossformer")
class CrossFormerBlock(Adapter):
    """LayerNorm, near or far attention, residual; LayerNorm, feed-forward, residual; at times a cooling layer."""

    def build(self) -> nn.Module:
        given = self.given
        dim, self.grid = given("dim"), pair(given("input_resolution"))
        window, far = given("group_size", 7), given("lsda_flag", 0) == 1
        if min(self.grid) <= window:  # as the authors do: near, in windows of the smaller side of the image
            window, far = min(self.grid), False
        interval = given("interval", 8)
        if given("adaptive_interval", False):
            interval = -(-self.grid[0] // window)
        given.ignore("drop", "attn_drop", "drop_path", "num_patch_size", "qk_scale")  # qk_scale goes into the weights
        self.hidden = dim // 4 // 4
        attention = CrossFormer(
            dim,
            rank=2,
            heads=given("num_heads"),
            window=window,
            distance="long" if far else "short",
            interval=interval,
            centred=given("pad_type", 0) != 0,
            hidden=self.hidden,
            border="zeros" if given("no_mask", False) else "hidden",
            qkv_bias=given("qkv_bias", True),
        )
        self.encoded = given("use_cpe", False)
        mixer = Chain(RowEncoding(dim, rows=self.grid[0]), attention) if self.encoded else attention
        block = Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))))
        self.cooled = given("use_extra_conv", True)
        return CoolingBlock(block) if self.cooled else block

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("attn_mask", "attn.biases", "attn.relative_position_index")
        ours = "mixer.mixers.1" if self.encoded else "mixer"
        names = {"attn.qkv": f"{ours}.qkv", "attn.proj": f"{ours}.proj", "attn.pos.pos_proj": f"{ours}.position.first"}
        for layer in range(3):
            for part in (0, 2):
                names[f"attn.pos.pos{layer + 1}.{part}"] = f"{ours}.position.layers.{layer}.{part}"
        names |= {"cpe": "mixer.mixers.0", "norm_cpe": "mixer.mixers.0.norm"}
        state = rescaled(self.given, self.state.rename(names | BLOCK_NAMES), f"{ours}.qkv")
        if self.encoded:  # then there is no bias, which is what a network of zeros gives
            network = DynamicBias(self.given("dim"), rank=2, heads=self.given("num_heads"), hidden=self.hidden)
            state |= {f"{ours}.position.{name}": torch.zeros_like(one) for name, one in network.state_dict().items()}
        if self.cooled:
            state = {f"block.{name}": value for name, value in state.items()}
            state |= self.state.rename({"ex_conv": "cool.conv", "ex_ln": "norm"})
        return state

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, self.grid)  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}
