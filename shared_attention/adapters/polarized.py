"""Polarized self-attention, the authors' classes and those of an independent implementation of the paper."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from shared_attention.mechanisms.gates.polarized import Polarized
from shared_attention.published import Adapter, adapts

__all__ = ["PaperParallel", "PaperSequential", "PsaParallel", "PsaSequential"]


class _Images(Adapter):
    """Channels first, on an image; convolutions of size one are linear layers."""

    arrangement: ClassVar[Literal["parallel", "sequential"]]
    names: ClassVar[dict[str, str]]
    flat_norm: ClassVar[str] = ""

    def convert(self) -> dict[str, Tensor]:
        renamed = self.state.rename(self.names)
        return {name: self._squeezed(name, value) for name, value in renamed.items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}

    def _squeezed(self, name: str, value: Tensor) -> Tensor:
        """`(E, C, 1, 1)` of a convolution as `(E, C)`, `(C, 1, 1)` of a normalisation as `(C,)`."""
        kept = 1 if name.endswith("bias") or (self.flat_norm and name.startswith(self.flat_norm)) else 2
        return value.flatten(kept - 1)


class _Released(_Images):
    def build(self) -> nn.Module:
        given = self.given
        dim, planes = given("inplanes"), given("planes")
        if planes != dim:
            raise ValueError(f"planes={planes} is not inplanes={dim}, so the gate does not fit its input")
        given.ignore("kernel_size")  # the authors read it and use one
        given.only("stride", 1)
        return Polarized(dim, rank=2, arrangement=self.arrangement, hidden=planes // 2)


@adapts("psa_p", mechanism="polarized")
class PsaParallel(_Released):
    """The authors' parallel class."""

    arrangement = "parallel"
    names: ClassVar[dict[str, str]] = {
        "conv_q_right": "channel_query",
        "conv_v_right": "channel_value",
        "conv_up": "channel_up",
        "conv_q_left": "token_query",
        "conv_v_left": "token_value",
    }


@adapts("psa_s", mechanism="polarized")
class PsaSequential(_Released):
    """The authors' sequential class."""

    arrangement = "sequential"
    names = PsaParallel.names
    flat_norm = "channel_up.1."


class _Paper(_Images):
    names: ClassVar[dict[str, str]] = {
        "ch_wq.weight": "channel_query.weight",
        "ch_wv": "channel_value",
        "ch_wz": "channel_up.0",
        "ln": "channel_up.1",
        "sp_wq": "token_query",
        "sp_wv": "token_value",
    }
    flat_norm = "channel_up.1."

    def build(self) -> nn.Module:
        return Polarized(self.given("channel", 512), rank=2, arrangement=self.arrangement, form="paper")

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("ch_wq.bias")  # a constant in a softmax over tokens
        return super().convert()


@adapts("psa_paper_parallel", mechanism="polarized")
class PaperParallel(_Paper):
    """The parallel form of the paper's equations."""

    arrangement = "parallel"


@adapts("psa_paper_sequential", mechanism="polarized")
class PaperSequential(_Paper):
    """The sequential form of the paper's equations."""

    arrangement = "sequential"
