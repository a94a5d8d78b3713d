"""Both releases of BiFormer's bi-level routing attention, as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.mechanisms.sparse.biformer import BiLevelRouting
from shared_attention.published import Adapter, adapts

__all__ = ["BiformerLegacy", "BiformerNchw"]

_POOLS = {
    "identity": "none",
    "avgpool": "average",
    "maxpool": "maximum",
    "ada_avgpool": "adaptive_average",
    "ada_maxpool": "adaptive_maximum",
}


@adapts("biformer_bra", mechanism="biformer")
class BiformerLegacy(Adapter):
    """Channels last; beside the tokens it gives the weights and numbers of the regions that were chosen."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("auto_pad", "kv_downsample_kernel")
        given.only("param_attention", "qkvo", "qkv")
        given.only("param_routing", False)
        given.only("diff_routing", False)
        mode = given("kv_downsample_mode", "identity")
        if mode not in _POOLS:
            raise ValueError(f"kv_downsample_mode={mode!r} is not served, only {', '.join(_POOLS)}")
        return BiLevelRouting(
            given("dim"),
            rank=2,
            heads=given("num_heads", 8),
            regions=given("n_win", 7),
            top_k=given("topk", 4),
            kernel=max(given("side_dwconv", 3), 0),
            key_dim=given("qk_dim", None) or None,
            scale=given("qk_scale", None) or None,
            pool=_POOLS[mode],  # type: ignore[arg-type]
            ratio=given("kv_downsample_ratio", 4) or 1,
            cells=given("kv_per_win", 4) or 1,
            soft=given("soft_routing", False),
            form="legacy",
        )

    def convert(self) -> dict[str, Tensor]:
        found = self.state.rename({"qkv.qkv": "qkv", "wo": "proj", "lepe": "local.conv"})
        if self.given("param_attention", "qkvo") == "qkv":  # without a projection, which is one that changes nothing
            found |= {"proj.weight": torch.eye(self.given("dim")), "proj.bias": torch.zeros(self.given("dim"))}
        return found

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, BiLevelRouting)
        x = self.inputs["x"]
        weights, index = module.route(x)
        return {"out": module(x), "out.r_weight": weights, "out.r_idx": index}


@adapts("biformer_bra_nchw", mechanism="biformer")
class BiformerNchw(Adapter):
    """Channels first, convolutions of one tap."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("auto_pad", "attn_backend")
        return BiLevelRouting(
            given("dim"),
            rank=2,
            heads=given("num_heads", 8),
            regions=given("n_win", 7),
            top_k=given("topk", 4),
            kernel=max(given("side_dwconv", 3), 0),
            scale=given("qk_scale", None) or None,
            form="nchw",
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state.rename({"qkv_linear": "qkv", "output_linear": "proj", "lepe": "local.conv"})
        return {name: one.flatten(1) if name.startswith(("qkv.w", "proj.w")) else one for name, one in state.items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).movedim(-1, 1)}
