"""CMTA's network and losses as published."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.medical.survival.losses import ce_loss, nll_loss, risk_of, survival_of
from domains.medical.survival.networks.cmta import TranslationNetwork
from domains.medical.survival.networks.heads import DiscreteHead
from shared_attention.published import Adapter, adapts

__all__ = ["Cmta", "SurvivalLosses"]

_TRANSFORMERS = {
    "pathomics_encoder": "encode_bag",
    "pathomics_decoder": "decode_bag",
    "genomics_encoder": "encode_groups",
    "genomics_decoder": "decode_groups",
}
_QUESTIONS = {"P_in_G_Att": "ask_groups", "G_in_P_Att": "ask_bag"}
_LAYERS = {"layer1": "first", "layer2": "second"}
_ALPHAS = tuple(round(0.05 * number, 2) for number in range(21))


@adapts("cmta", mechanism="medical/survival/cmta", tolerance=1e-5)
class Cmta(Adapter):
    """Widths are those of the state: the published sizes are names (`small`, `large`)."""

    def build(self) -> nn.Module:
        given, widths = self.given, self._widths
        given.ignore("model_size", "path_dim", "snn_hidden")
        sizes = list(given("omic_sizes"))
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        bag_widths = widths("pathomics_fc.{}.weight", range(0, 99, 3))
        group_widths = widths("genomics_fc.0.{}.0.weight", range(99))
        return TranslationNetwork(
            [range(start, start + size) for start, size in zip(starts, sizes, strict=True)],
            self.state("pathomics_fc.0.weight").shape[1],
            DiscreteHead(given("n_classes", 4)),
            dim=given("dim", group_widths[-1]),
            bag_widths=bag_widths,
            group_widths=group_widths,
            fusion=given("fusion", "concat"),
        )

    def convert(self) -> dict[str, Tensor]:
        state = self.state
        converted = state.rename({"classifier": "output"})
        for number, place in enumerate(range(0, 99, 3)):
            # Where nothing is dropped, as here in evaluation, ours has the same layers at the same places.
            converted |= state.rename({f"pathomics_fc.{place}": f"embed_bag.{3 * number}"})
        for name, value in state.under("genomics_fc").items():
            converted[f"embed_groups.{name}"] = value
        for theirs, ours in _TRANSFORMERS.items():
            converted |= self._transformer(theirs, ours)
        for theirs, ours in _QUESTIONS.items():
            weights, biases = (state(f"{theirs}.in_proj_{kind}").chunk(3) for kind in ("weight", "bias"))
            for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
                converted |= {f"{ours}.{name}.weight": weight, f"{ours}.{name}.bias": bias}
            converted |= state.rename({f"{theirs}.out_proj": f"{ours}.proj"})
        features = sum(self.given("omic_sizes"))
        scaling = {"scaling.centre": torch.zeros(features), "scaling.scale": torch.ones(features)}
        start = {"head.start": torch.zeros(self.given("n_classes", 4))}
        return converted | self._fusion() | scaling | start

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, TranslationNetwork)
        genomics = torch.cat([self.inputs[f"x_omic{number}"] for number in range(1, 7)])
        bag, interval = self.inputs["x_path"], self.inputs["Y"]
        seen = module.translate(genomics[None], bag[None])
        hazards = module(genomics[None], bag[None]).hazards
        return {
            "out.hazards": hazards,
            "out.S": survival_of(hazards),
            "out.P": seen.slide,
            "out.P_hat": seen.slide_translated,
            "out.G": seen.genome,
            "out.G_hat": seen.genome_translated,
            "out.nll_uncensored": nll_loss(hazards, interval, torch.ones(1)),
            "out.nll_censored": nll_loss(hazards, interval, torch.zeros(1)),
            "out.l1_P": functional.l1_loss(seen.slide, seen.slide_translated),
            "out.l1_G": functional.l1_loss(seen.genome, seen.genome_translated),
        }

    def _widths(self, name: str, places: range) -> list[int]:
        named = (name.format(place) for place in places)
        return [self.state(one).shape[0] for one in named if one in self.state]

    def _transformer(self, theirs: str, ours: str) -> dict[str, Tensor]:
        table = {f"{theirs}.norm": f"{ours}.norm", f"{theirs}.cls_token": f"{ours}.token"}
        for number, name in enumerate(("proj", "proj1", "proj2")):
            table[f"{theirs}.pos_layer.{name}"] = f"{ours}.square.convs.{number}"
        for layer, name in _LAYERS.items():
            table |= {
                f"{theirs}.{layer}.norm": f"{ours}.{name}.norm",
                f"{theirs}.{layer}.attn.to_qkv": f"{ours}.{name}.qkv",
                f"{theirs}.{layer}.attn.to_out.0": f"{ours}.{name}.proj",
            }
        kernels = {
            f"{ours}.{name}.conv.weight": self.state(f"{theirs}.{layer}.attn.res_conv.weight").squeeze(-1)
            for layer, name in _LAYERS.items()
        }
        return self.state.rename(table) | kernels

    def _fusion(self) -> dict[str, Tensor]:
        if self.given("fusion", "concat") == "concat":
            return self.state.rename({f"mm.{place}": f"fusion.layers.{place}" for place in (0, 2)})
        table = {"mm.encoder1.0": "fusion.products", "mm.encoder2.0": "fusion.output"}
        for side in (1, 2):
            table |= {
                f"mm.linear_h{side}.0": f"fusion.reduce.{side - 1}",
                f"mm.linear_z{side}.0": f"fusion.gates.{side - 1}",
                f"mm.linear_o{side}.0": f"fusion.refine.{side - 1}",
            }
        return self.state.rename(table)


@adapts("survival_losses", mechanism="medical/survival/losses", tolerance=1e-5)
class SurvivalLosses(Adapter):
    """Discrete-time losses and the risk; outputs are named by `alpha`."""

    def build(self) -> nn.Module:
        return nn.Identity()

    def convert(self) -> dict[str, Tensor]:
        self.state.drop("_none")
        return {}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        hazards, interval, event = self.inputs["hazards"], self.inputs["Y"], 1 - self.inputs["c"]
        outputs: Mapping[str, Tensor] = {"out.risk": risk_of(hazards)}
        for alpha in _ALPHAS:
            outputs = {
                **outputs,
                f"out.nll_{alpha}": nll_loss(hazards, interval, event, alpha=alpha),
                f"out.ce_{alpha}": ce_loss(hazards, interval, event, alpha=alpha),
            }
        return dict(outputs)
