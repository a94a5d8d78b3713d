"""Super token attention and its layer, as published."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from shared_attention.adapters.scaling import scaled_queries
from shared_attention.mechanisms.sparse.super_tokens import SuperTokenBlock, SuperTokens
from shared_attention.published import Adapter, Given, State, adapts

__all__ = ["StokenAttention", "StokenLayer"]


def _mixer(given: Given, heads: Any, **more: Any) -> SuperTokens:
    given.ignore("attn_drop", "qk_scale")  # qk_scale goes into the weights
    return SuperTokens(
        given("dim"),
        rank=2,
        heads=heads,
        window=tuple(given("stoken_size")),
        qkv_bias=given("qkv_bias", False),
        form="published",
        **more,
    )


def _converted(
    state: State, module: SuperTokens, scale: float | None, start: str = "", ours: str = ""
) -> dict[str, Tensor]:
    """The authors' projection packs queries, keys and values head by head; ours in three blocks."""
    state.drop(f"{start}unfold", f"{start}fold")
    refine = f"{start}stoken_refine"
    if module.refine == "convolution":
        found = state.rename(
            {f"{refine}.0": f"{ours}enter", f"{refine}.1": f"{ours}local.conv", f"{refine}.2": f"{ours}leave"}
        )
        return {name: one if "local" in name or one.ndim == 1 else one.flatten(1) for name, one in found.items()}
    if module.refine == "none":
        return {}
    found = state.rename({f"{refine}.proj": f"{ours}proj"})
    found = {name: one.flatten(1) if one.ndim > 1 else one for name, one in found.items()}
    for name, one in state.under(f"{refine}.qkv").items():
        heads = one.unflatten(0, (module.heads, 3, -1)).transpose(0, 1).flatten(0, 2)  # (3 C, ...)
        found[f"{ours}qkv.{name}"] = heads.flatten(1) if heads.ndim > 1 else heads
    return scaled_queries(found, f"{ours}qkv", scale, dim=module.dim, head_dim=module.head_dim)


@adapts("svit_sta", mechanism="super_tokens")
class StokenAttention(Adapter):
    """Channels first, on an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("proj_drop")
        refine = "attention" if given("refine_attention", True) else "convolution"
        self.module = _mixer(
            given,
            given("num_heads", 8),
            iterations=given("n_iter", 1),
            refine=refine if given("refine", True) else "none",
        )
        return self.module

    def convert(self) -> dict[str, Tensor]:
        return _converted(self.state, self.module, self.given("qk_scale", None))

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}


@adapts("svit_layer", mechanism="super_tokens")
class StokenLayer(Adapter):
    """Channels first, on an image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("drop", "drop_path")
        given.only("act_layer", "GELU", "nn.GELU", "gelu")
        dim = given("dim")
        self.module = _mixer(given, given("num_heads", 1), iterations=given("n_iter"))
        scale, first = given("layerscale", False), given("init_values", 1e-5)
        return SuperTokenBlock(
            self.module, hidden=int(dim * given("mlp_ratio", 4.0)), layer_scale=first if scale else None
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"pos_embed.conv": "position.conv", "norm1.norm": "norm1", "norm2": "norm2"}
        names |= {
            "mlp2.fc1": "feed_forward.expand",
            "mlp2.fc2": "feed_forward.contract",
            "mlp2.conv.conv": "local.conv",
        }
        found = self.state.rename(names | {"gamma_1": "scale1", "gamma_2": "scale2"})
        flat = {name: one.flatten(1) if "feed_forward" in name else one for name, one in found.items() if one.ndim > 1}
        flat |= {name: one.flatten() for name, one in found.items() if name.startswith("scale")}
        return found | flat | _converted(self.state, self.module, self.given("qk_scale", None), "attn.", "mixer.")

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}
