"""DSMIL, as its authors published it and as ACMIL's repository has it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from domains.medical.bags.networks.dsmil import DualStreamBags
from shared_attention.published import Adapter, adapts

__all__ = ["AcmilDsmil", "AcmilDsmilLinear", "Dsmil", "DsmilValues"]


class _Dsmil(Adapter):
    """Widths of the query are those of the state."""

    def convert(self) -> dict[str, Tensor]:
        names = {"i_classifier.fc.0": "instance_head", "b_classifier.fcc": "mix"}
        return self.state.rename(names | {"b_classifier.v.1": "value.1", "b_classifier.q": "query"})

    def network(self, features: int, classes: int, *, nonlinear: bool, values: bool) -> DualStreamBags:
        """Ours, of the widths in the state."""
        self.given.ignore("D_inner", "dropout_v")
        first = self.state("b_classifier.q.0.weight" if nonlinear else "b_classifier.q.weight")
        last = self.state("b_classifier.q.2.weight") if nonlinear else first
        return DualStreamBags(
            features,
            classes,
            query=last.shape[0],
            query_hidden=first.shape[0] if nonlinear else None,
            values=values,
        )


@adapts("dsmil", mechanism="medical/bags/dsmil")
class Dsmil(_Dsmil):
    """The authors' own."""

    def build(self) -> nn.Module:
        given = self.given
        return self.network(
            given("input_size"),
            given("output_class"),
            nonlinear=given("nonlinear", True),
            values=given("passing_v", False),
        )

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        output = module(self.inputs["x"].unsqueeze(0))
        return {
            "out.instance_logits": output.parts["instances"][0],
            "out.bag_logits": output.logits,
            "out.attn": output.attention[0].t(),
            "out.bag_repr": output.parts["bag"],
        }


@adapts("dsmil_passing_v", mechanism="medical/bags/dsmil")
class DsmilValues(Dsmil):
    """With a learned layer of values."""


@adapts("dsmil_acmil", mechanism="medical/bags/dsmil")
class AcmilDsmil(_Dsmil):
    """In ACMIL's repository."""

    def build(self) -> nn.Module:
        given = self.given
        return self.network(
            given("D_feat"),
            given("n_class"),
            nonlinear=given("nonlinear", True),
            values=given("passing_v", False),
        )

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, DualStreamBags)
        output = module(self.inputs["x"])
        return {
            "out.instance_logits": output.parts["instances"][0],
            "out.bag_logits": output.logits,
            "out.attn_logits": output.parts["attention_logits"][0],
            "out.loss": module.losses(output, self.inputs["label"], cross_entropy)["loss"],
        }


@adapts("dsmil_acmil_linear_q", mechanism="medical/bags/dsmil")
class AcmilDsmilLinear(AcmilDsmil):
    """With a linear query."""
