"""MAXIM's layers, as published in Flax: kernels are (in, out), images have their channels last."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared_attention.convolutions import channels_first, channels_last
from shared_attention.mechanisms.mixing.maxim import MultiAxisPerceptron
from shared_attention.mechanisms.mixing.maxim_block import BlockPerceptron
from shared_attention.mechanisms.mixing.maxim_cross_gating import CrossGating
from shared_attention.mechanisms.mixing.maxim_grid import GridPerceptron
from shared_attention.mechanisms.mixing.maxim_rdcab import DenseChannelAttention
from shared_attention.published import Adapter, State, adapts

__all__ = ["MaximBlock", "MaximCrossGating", "MaximGrid", "MaximMultiAxis", "MaximRdcab"]


def _sizes(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _from_flax(state: State, table: dict[str, str]) -> dict[str, Tensor]:
    """Linear layers, one-by-one convolutions and LayerNorms under our names and in PyTorch's layout."""
    found = {}
    for name, value in state.rename(table).items():
        module, _, entry = name.rpartition(".")
        if entry == "kernel":
            found[f"{module}.weight"] = value.reshape(value.shape[-2:]).T
        else:
            found[f"{module}.weight" if entry == "scale" else name] = value
    return found


def _perceptron(theirs: str, unit: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}LayerNorm": f"{ours}norm",
        f"{theirs}in_project": f"{ours}expand",
        f"{theirs}{unit}.intermediate_layernorm": f"{ours}gate_norm",
        f"{theirs}{unit}.Dense_0": f"{ours}along",
        f"{theirs}out_project": f"{ours}contract",
    }


class _Layer(Adapter):
    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}


@adapts("maxim_grid_gmlp", mechanism="maxim_grid", tolerance=2e-5)
class MaximGrid(_Layer):
    """The grid layer alone; its channels are those of its input."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_rate")
        dim = self.state("LayerNorm.scale").shape[0]
        size = _sizes(given("grid_size"))
        return GridPerceptron(dim, rank=2, grid_size=size, factor=given("factor", 2), bias=given("use_bias", True))

    def convert(self) -> dict[str, Tensor]:
        return _from_flax(self.state, _perceptron("", "GridGatingUnit", ""))


@adapts("maxim_block_gmlp", mechanism="maxim_block", tolerance=2e-5)
class MaximBlock(_Layer):
    """The block layer alone; its channels are those of its input."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_rate")
        dim = self.state("LayerNorm.scale").shape[0]
        size = _sizes(given("block_size"))
        return BlockPerceptron(dim, rank=2, block_size=size, factor=given("factor", 2), bias=given("use_bias", True))

    def convert(self) -> dict[str, Tensor]:
        return _from_flax(self.state, _perceptron("", "BlockGatingUnit", ""))


@adapts("maxim_multiaxis_gmlp", mechanism="maxim", tolerance=2e-5)
class MaximMultiAxis(_Layer):
    """Both, side by side."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_rate")
        return MultiAxisPerceptron(
            self.state("LayerNorm_in.scale").shape[0],
            rank=2,
            grid_size=_sizes(given("grid_size")),
            block_size=_sizes(given("block_size")),
            factor=given("input_proj_factor", 2),
            grid_factor=given("grid_gmlp_factor", 2),
            block_factor=given("block_gmlp_factor", 2),
            bias=given("use_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"LayerNorm_in": "norm", "in_project": "expand", "out_project": "contract"}
        names |= _perceptron("GridGmlpLayer.", "GridGatingUnit", "grid.")
        names |= _perceptron("BlockGmlpLayer.", "BlockGatingUnit", "block.")
        return _from_flax(self.state, names)


@adapts("maxim_rdcab", mechanism="maxim_rdcab", tolerance=2e-5)
class MaximRdcab(_Layer):
    """As in the bottleneck."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_rate")
        return DenseChannelAttention(
            given("features"), rank=2, reduction=given("reduction", 16), bias=given("use_bias", True)
        )

    def convert(self) -> dict[str, Tensor]:
        return _from_flax(
            self.state,
            {
                "LayerNorm": "norm",
                "channel_mixing.Dense_0": "feed_forward.expand",
                "channel_mixing.Dense_1": "feed_forward.contract",
                "channel_attention.Conv_0": "excite.expand",
                "channel_attention.Conv_1": "excite.contract",
            },
        )


class _CrossGatingBlock(nn.Module):
    """Our cross-gating behind the projections, and the doubling of the second grid, of the published block."""

    def __init__(self, core: CrossGating, dim: int, other_dim: int, *, upsample: bool, bias: bool) -> None:
        super().__init__()
        wide = core.dim if upsample else other_dim
        self.upsample = nn.ConvTranspose2d(other_dim, core.dim, 2, 2, bias=bias) if upsample else None
        self.project_x = nn.Linear(dim, core.dim, bias=bias)
        self.project_y = nn.Linear(wide, core.dim, bias=bias)
        self.core = core

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.upsample is not None:
            y = channels_last(self.upsample(channels_first(y)))
        both: tuple[Tensor, Tensor] = self.core(self.project_x(x), self.project_y(y))
        return both


@adapts("maxim_cross_gating", mechanism="maxim_cross_gating", tolerance=2e-5)
class MaximCrossGating(Adapter):
    """The whole block: the second input may have other channels, and half the grid where `upsample_y` is set."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout_rate")
        upsample, bias = given("upsample_y", True), given("use_bias", True)
        core = CrossGating(
            given("features"),
            rank=2,
            grid_size=_sizes(given("grid_size")),
            block_size=_sizes(given("block_size")),
            factor=given("input_proj_factor", 2),
            bias=bias,
            project=False,
        )
        first = self.state("ConvTranspose_0.kernel" if upsample else "Conv_1.kernel")
        return _CrossGatingBlock(
            core, self.state("Conv_0.kernel").shape[2], first.shape[2], upsample=upsample, bias=bias
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"Conv_0": "project_x", "Conv_1": "project_y"}
        for side in "xy":
            gate = f"SplitHeadMultiAxisGating_{side}"
            names |= {
                f"LayerNorm_{side}": f"core.{side}.norm",
                f"in_project_{side}": f"core.{side}.content",
                f"out_project_{side}": f"core.{side}.project",
                f"{gate}.LayerNorm_in": f"core.{side}.gate.norm",
                f"{gate}.in_project": f"core.{side}.gate.expand",
                f"{gate}.Dense_0": f"core.{side}.gate.grid",
                f"{gate}.Dense_1": f"core.{side}.gate.block",
                f"{gate}.out_project": f"core.{side}.gate.contract",
            }
        found = _from_flax(self.state, names)
        for name, value in self.state.under("ConvTranspose_0").items():
            # Flax correlates the spread-out image with the kernel, PyTorch spreads the kernel: one is the other turned
            kernel = value.flip(0, 1).permute(2, 3, 0, 1) if name == "kernel" else value
            found["upsample.weight" if name == "kernel" else "upsample.bias"] = kernel
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x, y = module(self.inputs["x"], self.inputs["y"])
        return {"out.0": x, "out.1": y}
