"""CCNet's criss-cross attention, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.sparse.criss_cross import CrissCross
from shared_attention.published import Adapter, adapts

__all__ = ["CrissCrossAttention"]


@adapts("ccnet_criss_cross", mechanism="criss_cross")
class CrissCrossAttention(Adapter):
    """Channels first, on an image; called as often as the reference says."""

    def build(self) -> nn.Module:
        return CrissCross(self.given("in_dim"), rank=2, recurrence=self.call("recurrence", 1))

    def convert(self) -> dict[str, Tensor]:
        parts = {"query_conv": "q", "key_conv": "k", "value_conv": "v"}
        state = self.state.rename({f"{theirs}.bias": f"{ours}.bias" for theirs, ours in parts.items()})
        state |= {f"{ours}.weight": self.state(f"{theirs}.weight").flatten(1) for theirs, ours in parts.items()}
        return state | {"share": self.state("gamma")}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}
