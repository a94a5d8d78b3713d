"""DTFD-MIL as ACMIL's repository evaluates it, pseudo-bags in order."""

from __future__ import annotations

from torch import Tensor, nn

from domains.medical.bags.networks.dtfd import DoubleTierBags
from shared_attention.published import Adapter, adapts

__all__ = ["Dtfd"]

_DISTILLED = {"MaxMinS": "max_min", "MaxS": "max", "AFS": "features"}


@adapts("dtfd", mechanism="medical/bags/dtfd")
class Dtfd(Adapter):
    """Several modules there, one here."""

    def build(self) -> nn.Module:
        given = self.given
        given.only("distill", *_DISTILLED)
        return DoubleTierBags(
            given("D_feat"),
            given("n_class"),
            hidden=given("D_inner"),
            attention_hidden=given("D", 128),
            groups=given("numGroup", 4),
            instances=given("total_instance", 4),
            distilled=_DISTILLED[given("distill", "MaxMinS")],  # type: ignore[arg-type]
            shuffled=False,
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"dimreduction.fc1": "embed.0", "classifier.fc": "group_head", "uclassifier.classifier.fc": "head"}
        for theirs, ours in (("attention", "pool"), ("uclassifier.attention", "second_pool")):
            names[f"{theirs}.attention_V.0"] = f"{ours}.content"
            names[f"{theirs}.attention_U.0"] = f"{ours}.gate"
            names[f"{theirs}.attention_weights"] = f"{ours}.score"
        return self.state.rename(names)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, DoubleTierBags)
        groups, distilled, _ = module.distil(self.inputs["x"][0])
        return {
            "out.tier1_logits": groups,
            "out.distilled": distilled,
            "out.tier2_logits": module(self.inputs["x"]).logits,
        }
