"""Attention MIL on bags of digits, as published by its authors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.abmil import AttentionBags
from shared_attention.published import Adapter, adapts

__all__ = ["AmlabAttention", "AmlabGatedAttention"]


class _Digits(nn.Module):
    """Two convolutions on each picture, then a bag network on the features."""

    def __init__(self, first: Tensor, second: Tensor, network: AttentionBags) -> None:
        super().__init__()
        self.first = nn.Conv2d(first.shape[1], first.shape[0], first.shape[-1])
        self.second = nn.Conv2d(second.shape[1], second.shape[0], second.shape[-1])
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Probability `(1, 1)` and attention `(1, N)` of pictures `(N, 1, 28, 28)`."""
        maps = nn.functional.max_pool2d(self.first(pictures).relu(), 2)
        maps = nn.functional.max_pool2d(self.second(maps).relu(), 2)
        output = self.network(maps.flatten(1).unsqueeze(0))
        assert output.attention is not None
        return output.logits.sigmoid(), output.attention[0]


@adapts("abmil_amlab", mechanism="medical/bags/abmil")
class AmlabAttention(Adapter):
    """Without the gate; the widths of the first layers are those of the state."""

    gated = False

    def build(self) -> nn.Module:
        dense = self.state("feature_extractor_part2.0.weight")
        network = AttentionBags(
            dense.shape[1],
            1,
            hidden=(self.given("M", 500),),
            attention_hidden=self.given("L", 128),
            gated=self.gated,
        )
        first, second = (self.state(f"feature_extractor_part1.{number}.weight") for number in (0, 3))
        return _Digits(first, second, network)

    def convert(self) -> dict[str, Tensor]:
        names = {"feature_extractor_part1.0": "first", "feature_extractor_part1.3": "second"}
        names |= {"feature_extractor_part2.0": "network.embed.0", "classifier.0": "network.head"}
        names |= {"attention.0": "network.pool.content", "attention.2": "network.pool.score"}
        names |= {"attention_V.0": "network.pool.content", "attention_U.0": "network.pool.gate"}
        return self.state.rename(names | {"attention_w": "network.pool.score"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        """The likelihood is that of the label, probabilities kept 1e-5 from the ends."""
        probability, attention = module(self.inputs["x"][0])
        safe = probability.clamp(1e-5, 1 - 1e-5)
        label = self.inputs["label"].to(safe.dtype)
        likelihood = -(label * torch.log(safe) + (1 - label) * torch.log(1 - safe))
        return {"out.prob": probability, "out.attn": attention, "out.nll": likelihood}


@adapts("abmil_amlab_gated", mechanism="medical/bags/abmil")
class AmlabGatedAttention(AmlabAttention):
    """With the gate."""

    gated = True
