"""Gaussian adaptive attention and a stack of it, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.mechanisms.gates.gaam import ChannelGaussians
from shared_attention.mechanisms.gates.gaam_tokens import TokenGaussians
from shared_attention.published import Adapter, adapts

__all__ = ["Gaam", "GaamBlock"]


class _Along(nn.Module):
    """A gate along any axis of any tensor, where ours look along the channels or the tokens."""

    def __init__(self, shape: torch.Size, axis: int, heads: int, gaussians: int, padding_value: float | None) -> None:
        super().__init__()
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"norm_axis {axis} is not an axis of {tuple(shape)}")
        if heads > shape[axis]:
            raise ValueError(f"num_heads {heads} is above the {shape[axis]} of norm_axis {axis}")
        self.axis = axis % len(shape)
        self.is_tokens = len(shape) > 2 and self.axis == len(shape) - 2
        kind, dim = (TokenGaussians, shape[-1]) if self.is_tokens else (ChannelGaussians, shape[axis])
        self.mixer = kind(dim, rank=1, heads=heads, gaussians=gaussians, padding_value=padding_value)

    def forward(self, x: Tensor) -> Tensor:
        return self._turned_back(self.mixer(self._turned(x)), x)

    def weights(self, x: Tensor) -> Tensor:
        """What the values are scaled by."""
        turned = self._turned(x)
        gate = self.mixer.gate
        weights = gate.weights(turned.mT).mT if self.is_tokens else gate.weights(turned)
        return self._turned_back(weights, x)

    def _turned(self, x: Tensor) -> Tensor:
        """As `(B, N, C)`."""
        return x.flatten(0, -3) if self.is_tokens else x.movedim(self.axis, -1).reshape(1, -1, x.shape[self.axis])

    def _turned_back(self, tokens: Tensor, x: Tensor) -> Tensor:
        if self.is_tokens:
            return tokens.reshape(x.shape)
        return tokens.reshape(x.movedim(self.axis, -1).shape).movedim(-1, self.axis)


class _Stack(nn.Module):
    def __init__(self, layers: list[_Along]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


class _Gaussian(Adapter):
    def layer(self, axis: int, heads: int, gaussians: int) -> _Along:
        """One layer; the size of its axis is known from the input alone."""
        if "x" not in self.inputs:
            raise ValueError("inputs are needed: the arguments do not say how many axes and channels x has")
        self.given.ignore("eps")  # the authors pass it on in the place of an offset that they do not use
        return _Along(self.inputs["x"].shape, axis, heads, gaussians, self.given("padding_value", None))

    def parameters_of(self, theirs: str, ours: str) -> dict[str, Tensor]:
        """Those of all heads of a layer, stacked."""
        heads = self.state.under(theirs)
        count = len({name.split(".")[0] for name in heads})
        names = {"mean_offsets": "offsets", "c": "widths"}
        return {
            f"{ours}.{new}": torch.stack([heads[f"{head}.{old}"] for head in range(count)])
            for old, new in names.items()
        }


@adapts("gaam", mechanism="gaam")
class Gaam(_Gaussian):
    """One layer; it also gives the weights."""

    def build(self) -> nn.Module:
        return self.layer(self.given("norm_axis"), self.given("num_heads"), self.given("num_gaussians"))

    def convert(self) -> dict[str, Tensor]:
        return self.parameters_of("attention_heads", "mixer.gate")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, _Along)
        x = self.inputs["x"]
        return {"out": module(x), "out.y": module(x), "out.mixture": module.weights(x)}


@adapts("gaam_block", mechanism="gaam")
class GaamBlock(_Gaussian):
    """Layers with residuals, each along its own axis."""

    def build(self) -> nn.Module:
        given = self.given
        layers = list(zip(given("norm_axes"), given("num_heads"), given("num_gaussians"), strict=True))
        if len(layers) != given("num_layers"):
            raise ValueError(f"num_layers {given('num_layers')} is not the number of norm_axes, {len(layers)}")
        return _Stack([self.layer(*layer) for layer in layers])

    def convert(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for layer in range(self.given("num_layers")):
            found |= self.parameters_of(f"layers.{layer}.attention_heads", f"layers.{layer}.mixer.gate")
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"])}
