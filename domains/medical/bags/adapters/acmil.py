"""ACMIL and the networks of its repository that share its first layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from domains.medical.bags.networks.abmil import AttentionBags
from domains.medical.bags.networks.acmil import ChallengingBags
from domains.medical.bags.networks.acmil_heads import ChallengingHeads, QueryBags
from domains.medical.bags.networks.contract import Aggregator
from shared_attention.published import Adapter, adapts

__all__ = ["AcmilGated", "AcmilHeads", "GatedBaseline", "SingleQuery"]

_POOL = {
    "attention.attention_V.0": "pool.content",
    "attention.attention_U.0": "pool.gate",
    "attention.attention_weights": "pool.score",
}
_LOOK = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "proj", "layer_norm": "norm"}


def _look(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{name}": f"{ours}.{new}" for name, new in _LOOK.items()}


@adapts("abmil_gated", mechanism="medical/bags/abmil")
class GatedBaseline(Adapter):
    """Gated attention after a layer without bias."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("droprate")
        return AttentionBags(
            given("D_feat"),
            given("n_class"),
            hidden=(given("D_inner"),),
            attention_hidden=given("D", 128),
            bias=False,
        )

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename(_POOL | {"dimreduction.fc1": "embed.0", "classifier.fc": "head"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, AttentionBags)
        x = self.inputs["x"]
        return {"out.logits": module(x).logits, "out.attn_logits": module.pool.logits(module.embed(x))[:, 0]}


class _Branches(Adapter):
    """What both forms of ACMIL share: outputs and losses, in evaluation and with instances hidden."""

    def convert(self) -> dict[str, Tensor]:
        names = {"dimreduction.fc1": "embed.0", "Slide_classifier.fc": "head"}
        for number in range(self.given("n_token", 1)):
            names[f"classifier.{number}.fc"] = f"branch_heads.{number}"
        return self.state.rename(names)

    def judged(self, module: nn.Module, start: str = "") -> dict[str, Tensor]:
        """Outputs whose names begin with `start`."""
        assert isinstance(module, Aggregator)
        label = self.inputs["label"]
        output = module(self.inputs["x"])
        losses = module.losses(output, label, cross_entropy)
        found = {
            "branch_logits": output.parts["branches"][0],
            "bag_logits": output.logits,
            "loss_p": losses.get("branch_loss", torch.zeros(())),
            "loss_b": losses["bag_loss"],
            "loss_d": losses.get("similarity", torch.zeros(())),
        }
        found["attn_logits"] = output.parts["attention_logits"]
        if "bag" in output.parts and not start:
            found["bag_feat"] = output.parts["bag"]
        return {f"out.{start}{name}": value for name, value in found.items()}


@adapts("acmil_ga", mechanism="medical/bags/acmil")
class AcmilGated(_Branches):
    """Gated attention; hiding is compared where all of the highest instances are hidden, so that no draw matters."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("droprate")
        return ChallengingBags(
            given("D_feat"),
            given("n_class"),
            hidden=(given("D_inner"),),
            attention_hidden=given("D", 128),
            branches=given("n_token", 1),
            masked=given("n_masked_patch", 0),
            mask_share=given("mask_drop", 0.0),
        )

    def convert(self) -> dict[str, Tensor]:
        return super().convert() | self.state.rename(_POOL)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        found = self.judged(module)
        return found | self.judged(module.train(), "train_")


@adapts("acmil_mha", mechanism="medical/bags/acmil_heads")
class AcmilHeads(_Branches):
    """Multi-head attention; instances are hidden without dropout."""

    def build(self) -> nn.Module:
        given = self.given
        return ChallengingHeads(
            given("D_feat"),
            given("n_class"),
            hidden=(given("D_inner"),),
            heads=given("heads", 8),
            branches=given("n_token", 1),
            masked=given("n_masked_patch", 0),
            mask_share=given("mask_drop", 0.0),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"q": "queries"} | _look("bag_attention", "bag_look")
        for number in range(self.given("n_token", 1)):
            names |= _look(f"sub_attention.{number}", f"looks.{number}")
        return super().convert() | self.state.rename(names)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        found = self.judged(module)
        module.training = True  # this module alone, so that the dropout inside stays off
        hidden = self.judged(module, "stkim_")
        module.eval()
        return {name: value[0] if name.endswith("attn_logits") else value for name, value in (found | hidden).items()}


@adapts("mil_mha", mechanism="medical/bags/query")
class SingleQuery(Adapter):
    """One query with several heads."""

    def build(self) -> nn.Module:
        given = self.given
        return QueryBags(given("D_feat"), given("n_class"), hidden=(given("D_inner"),), heads=given("heads", 8))

    def convert(self) -> dict[str, Tensor]:
        names = {"dimreduction.fc1": "embed.0", "classifier.fc": "head", "q": "query"}
        return self.state.rename(names | _look("attention", "look"))

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out.logits": module(self.inputs["x"]).logits}
