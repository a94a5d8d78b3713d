"""DCAL's equations as written down for reference: there is no official code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from domains.reid.losses import LearnedWeights
from domains.reid.models.dcal import GlobalLocal, roll_out, self_attention, with_pairs
from shared_attention import build
from shared_attention.blocks import Block, FeedForward
from shared_attention.published import Adapter, adapts

__all__ = ["DcalReference"]

_EPS = 1e-6


@adapts("dcal_own_reference", mechanism="reid/dcal")
class DcalReference(Adapter):
    """Blocks with `qkv` in one layer; tokens come ready-made, and all branches come out."""

    def build(self) -> nn.Module:
        given = self.given
        dim, heads, hidden = given("dim"), given("heads"), given("mlp")
        given.only("glca_layers", 1)
        blocks = (
            Block(build("full", dim, rank=1, heads=heads), FeedForward(dim, hidden=hidden), eps=_EPS)
            for _ in range(given("sa_layers"))
        )
        local = GlobalLocal(dim, heads=heads, hidden=hidden, ratio=given("R"), eps=_EPS)
        return nn.ModuleDict({"blocks": nn.ModuleList(blocks), "local": local, "weights": LearnedWeights(3)})

    def convert(self) -> dict[str, Tensor]:
        converted = {"weights.w": self.inputs["w"]}
        places = {f"sa.{number}": f"blocks.{number}" for number in range(self.given("sa_layers"))}
        for theirs, ours in (places | {"glca": "local.block"}).items():
            names = {"norm1": "norm1", "norm2": "norm2", "fc1": "feed_forward.expand", "fc2": "feed_forward.contract"}
            names["proj"] = "mixer.proj"
            converted |= self.state.rename({f"{theirs}.{name}": f"{ours}.{mine}" for name, mine in names.items()})
            for kind in ("weight", "bias"):
                q, k, v = self.state(f"{theirs}.qkv.{kind}").chunk(3)
                converted |= {f"{ours}.mixer.q.{kind}": q, f"{ours}.mixer.kv.{kind}": torch.cat([k, v])}
        return converted

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        parts: Any = module
        blocks, local = parts["blocks"], parts["local"]
        first, second = self.inputs["x1"], self.inputs["x2"]
        tokens, maps = self_attention(blocks, first)
        heeded = roll_out(maps)
        chosen = local.select(heeded)
        both = torch.cat([first, second])
        pair = torch.arange(len(both)).roll(len(first))
        paired = with_pairs(blocks, both, pair)
        return {
            "out.sa_tokens": tokens,
            "out.rollout": heeded,
            "out.glca_index": chosen,
            "out.glca_tokens": local(tokens, chosen),
            "out.pwca_tokens_1": paired[: len(first)],
            "out.pwca_tokens_2": paired[len(first) :],
            "out.loss_total": parts["weights"](self.inputs["losses"]),
        }
