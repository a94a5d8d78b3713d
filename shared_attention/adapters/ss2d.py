"""VM-UNet's SS2D, as published."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from shared_attention.mechanisms.mixing.ss2d import CrossScan
from shared_attention.published import Adapter, adapts

__all__ = ["VmunetSs2d", "scan_state"]


def scan_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a scan from the authors' five; routes come first in each."""
    project = theirs["x_proj_weight"]  # (K, R + 2 N, D)
    routes, dim = project.shape[0], project.shape[2]
    return {
        "project": project,
        "step_weight": theirs["dt_projs_weight"],
        "step_bias": theirs["dt_projs_bias"],
        "decay_log": theirs["A_logs"].view(routes, dim, -1),
        "skip": theirs["Ds"].view(routes, dim),
    }


@adapts("vmunet_ss2d", mechanism="ss2d")
class VmunetSs2d(Adapter):
    """Channels last, on an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "device", "dtype")
        step_rank = given("dt_rank", "auto")
        return CrossScan(
            given("d_model"),
            rank=2,
            state=given("d_state", 16),
            kernel=given("d_conv", 3),
            expand=given("expand", 2),
            step_rank=None if step_rank == "auto" else step_rank,
            bias=given("bias", False),
            conv_bias=given("conv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        names = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")
        scan = scan_state({name: self.state(name) for name in names})
        rest = {"in_proj": "project_in", "conv2d": "conv.conv", "out_norm": "norm", "out_proj": "project_out"}
        return self.state.rename(rest) | {f"scan.{name}": value for name, value in scan.items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        out = module(self.inputs["x"])
        return {"out": out, "out.y": out}
