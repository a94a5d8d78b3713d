"""PMAA's block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.convolutions import channels_first, channels_last
from shared_attention.mechanisms.mixing.pmaa import Pyramid
from shared_attention.published import Adapter, adapts

__all__ = ["PmaaBlock"]


class _Outer(nn.Module):
    """The pyramid with the residual that its channels allow: none, the input, or the sum of its three thirds."""

    def __init__(self, pyramid: Pyramid, residual: int) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pyramid(x)
        if not self.residual:
            return out
        return out + x.unflatten(-1, (self.residual, -1)).sum(-2)


@adapts("pmaa_uconv_block", mechanism="pmaa")
class PmaaBlock(Adapter):
    """Channels first; `act` names the activation, and none is what the reference was recorded with."""

    def build(self) -> nn.Module:
        given = self.given
        dim, out = given("in_channels", 64), given("out_channels", 64)
        self.levels, first = given("upsampling_depth", 4), given("is_first", False)
        if not first and dim not in (out, 3 * out):
            raise ValueError(f"in_channels {dim} are neither the {out} out_channels nor three times as many")
        pyramid = Pyramid(
            dim,
            out,
            hidden=given("hidden_channels", 128),
            rank=2,
            levels=self.levels,
            form="published",
            activation=given("act", None) in ("relu", "ReLU"),
        )
        return _Outer(pyramid, 0 if first else dim // out)

    def convert(self) -> dict[str, Tensor]:
        names = _level("proj_1x1", "expand") | {"res_conv": "contract"}
        names |= {
            "globalatt.attn.norm": "coarse.0.norm1",
            "globalatt.layer_scale_1": "coarse.0.scale1",
            "globalatt.attn.a.0": "coarse.0.mixer.before",
            "globalatt.attn.a.2": "coarse.0.mixer.around.conv",
            "globalatt.attn.v": "coarse.0.mixer.value",
            "globalatt.attn.proj": "coarse.0.mixer.project",
            "globalatt.mlp.norm": "coarse.1.norm1",
            "globalatt.layer_scale_2": "coarse.1.scale1",
            "globalatt.mlp.fc1": "coarse.1.mixer.expand",
            "globalatt.mlp.pos": "coarse.1.mixer.around.conv",
            "globalatt.mlp.fc2": "coarse.1.mixer.contract",
        }
        for level in range(self.levels):
            names |= _level(f"spp_dw.{level}", f"levels.{level}")
            if level == self.levels - 1 and self.levels > 2:
                self.state.drop(f"loc_glo_fus.{level}")  # made and never used
            else:
                names |= _fusion(f"loc_glo_fus.{level}", f"fusions.{level}")
            if level < self.levels - 1:
                names |= _fusion(f"last_layer.{level}", f"back.{level}")
        linear = {"contract", *(f"coarse.0.mixer.{one}" for one in ("before", "value", "project"))}
        linear |= {"coarse.1.mixer.expand", "coarse.1.mixer.contract"}
        found = {}
        for name, value in self.state.rename(names).items():
            module, _, entry = name.rpartition(".")
            found[f"pyramid.{name}"] = value.flatten(1) if module in linear and entry == "weight" else value
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": channels_first(module(channels_last(self.inputs["x"])))}


def _level(theirs: str, ours: str) -> dict[str, str]:
    return {
        f"{theirs}.conv_dw": f"{ours}.first.conv.conv",
        f"{theirs}.bn1": f"{ours}.first.norm",
        f"{theirs}.conv_pw": f"{ours}.second.conv.conv",
        f"{theirs}.bn2": f"{ours}.second.norm",
    }


def _fusion(theirs: str, ours: str) -> dict[str, str]:
    parts = {"local_embedding": "local", "global_embedding": "added", "global_act": "gate"}
    return {f"{theirs}.{a}.0": f"{ours}.{b}.conv.conv" for a, b in parts.items()} | {
        f"{theirs}.{a}.1": f"{ours}.{b}.norm" for a, b in parts.items()
    }
