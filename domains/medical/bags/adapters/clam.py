"""CLAM, as its authors published it and as ACMIL's repository has it."""

from __future__ import annotations

from torch import Tensor, nn

from domains.medical.bags.networks.clam import ClusteredBags
from shared_attention.published import Adapter, adapts

__all__ = ["AcmilClamMultiple", "AcmilClamSingle", "ClamMultiple", "ClamSingle"]


class _Clam(Adapter):
    """Widths are those of the state, as `size_arg` names different ones in different places."""

    by_class = False
    sink = False

    def convert(self) -> dict[str, Tensor]:
        net = self._attention()
        names = {"attention_net.0": "embed.0"} | ({} if self.by_class else {"classifiers": "heads.0"})
        for number in range(self.classes):
            if self.by_class:
                names[f"classifiers.{number}"] = f"heads.{number}"
            names[f"instance_classifiers.{number}"] = f"instance_heads.{number}"
        names |= {f"{net}.attention_a.0": "pool.content", f"{net}.attention_b.0": "pool.gate"}
        names |= {f"{net}.attention_c": "pool.score", f"{net}.module.0": "pool.content"}
        names |= {f"{net}.module.{number}": "pool.score" for number in (2, 3)}
        return self.state.rename(names)

    def network(self, features: int, classes: int, *, subtyping: bool, instances: int) -> ClusteredBags:
        """Ours, of the widths in the state."""
        self.classes = classes
        self.given.only("size_arg", "small", "big")
        self.given.ignore("dropout", "hidden", "D_inner")
        gated = self.given("gate", True)
        net = self._attention()
        hidden = self.state(f"{net}.attention_a.0.weight" if gated else f"{net}.module.0.weight")
        return ClusteredBags(
            features,
            classes,
            hidden=hidden.shape[1],
            attention_hidden=hidden.shape[0],
            by_class=self.by_class,
            gated=gated,
            instances=instances,
            subtyping=subtyping,
            sink=self.sink,
        )

    def _attention(self) -> str:
        """Where the attention stands: after a linear layer, an activation and perhaps a dropout."""
        after = any(
            name in self.state for name in ("attention_net.3.attention_a.0.weight", "attention_net.3.module.0.weight")
        )
        return "attention_net.3" if after else "attention_net.2"


@adapts("clam_sb", mechanism="medical/bags/clam")
class ClamSingle(_Clam):
    """One branch, the authors' own."""

    def build(self) -> nn.Module:
        given = self.given
        return self.network(
            given("embed_dim", 1024),
            given("n_classes", 2),
            subtyping=given("subtyping", False),
            instances=given("k_sample", 8),
        )

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, ClusteredBags)
        output = module(self.inputs["x"].unsqueeze(0))
        return {
            "out.logits": output.logits,
            "out.prob": output.logits.softmax(-1),
            "out.attn_logits": output.parts["attention_logits"][0],
            "out.features": output.parts["bag"][0],
            "out.instance_loss": module.instance_loss(output, self.inputs["label"]),
        }


@adapts("clam_mb", mechanism="medical/bags/clam")
class ClamMultiple(ClamSingle):
    """A branch for each class, the authors' own."""

    by_class = True


@adapts("clam_sb_acmil", mechanism="medical/bags/clam")
class AcmilClamSingle(_Clam):
    """One branch, in ACMIL's repository."""

    def build(self) -> nn.Module:
        given = self.given
        classes = given("n_class")
        return self.network(
            given("D_feat"), classes, subtyping=given("subtyping", classes > 2), instances=given("k_sample", 8)
        )

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, ClusteredBags)
        output = module(self.inputs["x"])
        return {
            "out.logits": output.logits,
            "out.attn_logits": output.parts["attention_logits"][0],
            "out.instance_loss": module.instance_loss(output, self.inputs["label"]),
        }


@adapts("clam_mb_acmil", mechanism="medical/bags/clam")
class AcmilClamMultiple(AcmilClamSingle):
    """A branch for each class, in ACMIL's repository, whose weights leave a rest."""

    by_class = True
    sink = True
