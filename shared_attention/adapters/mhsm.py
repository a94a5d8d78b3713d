"""MHS-VM's multi-head scan, its routes and its gated block, as published."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shared_attention.adapters.ss2d import scan_state
from shared_attention.mechanisms.mixing.mhsm import FAMILIES, MultiHeadScan, fuse_routes
from shared_attention.mechanisms.mixing.vss_gate import GatedMultiHeadScan
from shared_attention.published import Adapter, State, adapts
from shared_attention.routes import plane_routes

__all__ = ["Mhsm", "MhsmRoutes", "VssGate"]

_HEADS = "CXSZ"


def _tables(height: int, width: int) -> Tensor:
    """All routes of a grid with their inverses, as the authors keep them: int64 `(8, 2, L)`."""
    routes = torch.cat([plane_routes((height, width), family) for family in FAMILIES])
    return torch.stack([routes, routes.argsort(-1)], 1)


def _multi_head_state(state: State, prefix: str = "") -> dict[str, Tensor]:
    state.drop(f"{prefix}x_ssproj_W")  # the weight of x_ssproj once more
    heads = []
    for letter in _HEADS:
        state.drop(f"{prefix}scanhead_{letter}.scanning")  # the head's scan once more
        if found := state.under(f"{prefix}scanhead_{letter}.mambaeng"):
            heads.append(scan_state(found))
    renamed = state.rename(
        {f"{prefix}x_ssproj": "project_in", f"{prefix}cat_norm": "norm", f"{prefix}y_proj": "project_out"}
    )
    return renamed | {f"scan.{name}": torch.cat([head[name] for head in heads]) for name in heads[0]}


@adapts("mhsvm_mhsm", mechanism="mhsm")
class Mhsm(Adapter):
    """Channels first in, channels last out; the routes are given as tables, and must be ours."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("route_dict", "device", "dtype")
        sizes: dict[str, Any] = given("para_dict", {"head_num": 3, "gfu_t": 0, "with_proj": True})
        return MultiHeadScan(
            given("d_model"),
            rank=2,
            heads=sizes["head_num"],
            state=given("d_state", 16),
            threshold=sizes["gfu_t"],
            project=sizes["with_proj"],
        )

    def convert(self) -> dict[str, Tensor]:
        return _multi_head_state(self.state)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"].movedim(1, -1)  # (B, H, W, C)
        route = self.inputs.get("route")
        if route is not None and not torch.equal(route.long(), _tables(x.shape[1], x.shape[2])):
            raise ValueError("the routes given are not those of routegen for this grid")
        return {"out": module(x)}


@adapts("mhsvm_routes", mechanism="mhsm")
class MhsmRoutes(Adapter):
    """The tables for each stage of a network whose first has a quarter of the image's sides."""

    def build(self) -> nn.Module:
        self.sides, self.depth = (self.given("H"), self.given("W")), self.given("Depth", 4)
        if any(side % 2 ** (self.depth + 1) for side in self.sides):
            raise ValueError(f"sides {self.sides} are not multiples of {2 ** (self.depth + 1)}")
        return nn.Identity()

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("_none")
        return {}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        height, width = self.sides
        return {f"out.layer{i}": _tables(height // 2 ** (i + 2), width // 2 ** (i + 2)) for i in range(self.depth)}


@adapts("mhsvm_vssgate", mechanism="vss_gate")
class VssGate(Adapter):
    """Channels last; the inside of the block and the fusion of routes are held against the authors' too."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout", "route_dict", "device", "dtype")
        sizes = {"head_num": 3, "gfu_t": 0, "with_proj": True} | given("para_dict", {})
        return GatedMultiHeadScan(
            given("d_model"),
            rank=2,
            heads=given("head_num", sizes["head_num"]),
            state=given("d_state", 16),
            threshold=given("gfu_t", sizes["gfu_t"]),
            project=given("with_proj", sizes["with_proj"]),
            kernel=given("d_conv", 3),
            bias=given("bias", False),
            conv_bias=given("conv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"in_proj": "project_in", "conv2d": "conv.conv", "out_norm": "norm"})
        return state | {f"scan.{name}": value for name, value in _multi_head_state(self.state, "mhs.").items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, GatedMultiHeadScan)
        x = self.inputs["x"]
        content = module.convolve(module.project_in(x).chunk(2, -1)[0])
        found = {"out.y": module(x), "out.mhs_in": content.movedim(-1, 1), "out.mhs_out": module.scan(content)}
        if "gfu_x" in self.inputs:
            found["out.gfu_y"] = fuse_routes(self.inputs["gfu_x"], module.scan.threshold)
        return found | {"out": found["out.y"]}
