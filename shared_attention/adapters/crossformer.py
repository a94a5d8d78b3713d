"""CrossFormer's and CrossFormer++'s block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.window import BLOCK_NAMES, pair
from shared_attention.blocks import Block, FeedForward
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.windows.crossformer import CrossFormer
from shared_attention.published import Adapter, adapts

__all__ = ["CoolingBlock", "CrossFormerBlock"]


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
        given.only("qk_scale", None)
        given.only("use_cpe", False)
        given.only("no_mask", False)
        given.ignore("drop", "attn_drop", "drop_path", "num_patch_size")
        mixer = CrossFormer(
            dim,
            rank=2,
            heads=given("num_heads"),
            window=window,
            distance="long" if far else "short",
            interval=interval,
            centred=given("pad_type", 0) != 0,
            hidden=dim // 4 // 4,
            qkv_bias=given("qkv_bias", True),
        )
        block = Block(mixer, FeedForward(dim, hidden=int(dim * given("mlp_ratio", 4.0))))
        self.cooled = given("use_extra_conv", True)
        return CoolingBlock(block) if self.cooled else block

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("attn_mask", "attn.biases", "attn.relative_position_index")
        names = {"attn.qkv": "mixer.qkv", "attn.proj": "mixer.proj", "attn.pos.pos_proj": "mixer.position.first"}
        for layer in range(3):
            for part in (0, 2):
                names[f"attn.pos.pos{layer + 1}.{part}"] = f"mixer.position.layers.{layer}.{part}"
        state = self.state.rename(names | BLOCK_NAMES)
        if self.cooled:
            state = {f"block.{name}": value for name, value in state.items()}
            state |= self.state.rename({"ex_conv": "cool.conv", "ex_ln": "norm"})
        return state

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].unflatten(1, self.grid)  # (B, H, W, C)
        return {"out": module(x).flatten(1, 2)}
