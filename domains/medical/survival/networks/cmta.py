"""CMTA: a slide translated into genomics and back, and both compared with what was measured.

>>> groups = [range(0, 3), range(3, 8)]
>>> network = TranslationNetwork(groups, 24, DiscreteHead(4), dim=16, bag_widths=(16,), group_widths=(16,)).eval()
>>> output = network(torch.zeros(2, 8), torch.zeros(2, 30, 24))  # (B, F), (B, N, C)
>>> output.hazards.shape, list(output.losses)
(torch.Size([2, 4]), ['alignment'])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.medical.bags.networks.contract import Embedding
from domains.medical.bags.networks.transmil import NystromLayer, PositionPyramid
from domains.medical.survival.networks.contract import SurvivalNetwork, SurvivalOutput
from domains.medical.survival.networks.fusion import ConcatFusion, GatedBilinearFusion
from domains.medical.survival.networks.genomics import FeatureScaling, SelfNormalising
from domains.medical.survival.networks.heads import DiscreteHead, ProportionalHead
from shared_attention.attend import attend

__all__ = ["Translation", "TranslationNetwork"]


class Translation(NamedTuple):
    """Patients seen twice in each modality, each `(B, D)`: as measured, and translated from the other one."""

    slide: Tensor
    slide_translated: Tensor
    genome: Tensor
    genome_translated: Tensor


class TranslationNetwork(SurvivalNetwork):
    """Zhou and Chen, Cross-Modal Translation and Alignment for Survival Analysis, ICCV 2023.

    The slide's tokens ask the genomic ones, and what they are given is read as a slide; the genome likewise. A
    translation is drawn towards the measured side of its modality by their mean absolute difference; as in the released
    code (FT-ZHOU-ZZZ/CMTA@31340f6) only the translated side is drawn. Patients pass one by one, as there.

    Args:
        groups: Features of each genomic group, by their place; a feature may be in several groups, or in none.
        bag_features: Width `C` of an instance.
        head: From the last layer to hazards.
        dim: Width `D` of tokens, a multiple of 8.
        bag_widths: Width of each layer that embeds an instance, the last of them `dim`.
        group_widths: Width of each layer that embeds a group, the last of them `dim`.
        fusion: `concat`, or `bilinear` with gates.
        dropout: Probability that an embedded unit is dropped in training.
        attention_dropout: The same for a unit projected by an attention layer.
        scaling: How features are scaled; as they are by default.

    Raises:
        ValueError: A group is empty or widths do not end in `dim`.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        bag_features: int,
        head: DiscreteHead | ProportionalHead,
        *,
        dim: int = 256,
        bag_widths: Sequence[int] = (256, 256),
        group_widths: Sequence[int] = (1024, 256),
        fusion: Literal["concat", "bilinear"] = "concat",
        dropout: float = 0.25,
        attention_dropout: float = 0.1,
        scaling: FeatureScaling | None = None,
    ) -> None:
        super().__init__()
        if not groups or not all(len(group) for group in groups):
            raise ValueError(f"groups of {[len(group) for group in groups]} features: each needs at least one")
        for name, widths in (("bag_widths", bag_widths), ("group_widths", group_widths)):
            if not widths or widths[-1] != dim:
                raise ValueError(f"{name} {tuple(widths)} should end in dim {dim}")
        features = 1 + max(max(group) for group in groups)
        self.scaling = scaling if scaling is not None else FeatureScaling.blank(features)
        self._groups = [list(group) for group in groups]
        self.embed_groups = nn.ModuleList(
            [SelfNormalising(len(group), group_widths, dropout=dropout) for group in groups]
        )
        self.embed_bag = Embedding(bag_features, bag_widths, dropout=dropout)
        self.encode_bag, self.decode_bag = (_Transformer(dim, attention_dropout, square=True) for _ in range(2))
        self.encode_groups, self.decode_groups = (_Transformer(dim, attention_dropout, square=False) for _ in range(2))
        self.ask_groups, self.ask_bag = _Question(dim), _Question(dim)
        self.fusion: nn.Module = ConcatFusion(dim) if fusion == "concat" else GatedBilinearFusion(dim, dropout=dropout)
        self.output = nn.Linear(dim, head.inputs)
        self.apply(_start)
        self.head = head

    def forward(
        self, genomics: Tensor | None, bags: Tensor | None = None, mask: Tensor | None = None
    ) -> SurvivalOutput:
        """See `SurvivalNetwork`; `alignment` is the mean over patients. Raises a ValueError without one modality."""
        if genomics is None or bags is None:
            missing = "genomics" if genomics is None else "slides"
            raise ValueError(f"this network looks at genomics and slides, and there are no {missing}")
        real = [bag if mask is None else bag[mask[number]] for number, bag in enumerate(bags)]
        seen = self._in_squares(self.scaling(genomics), real)  # each (B, D)
        fused = self.fusion((seen.slide + seen.slide_translated) / 2, (seen.genome + seen.genome_translated) / 2)
        alignment = functional.l1_loss(seen.slide_translated.float(), seen.slide.detach().float())
        alignment = alignment + functional.l1_loss(seen.genome_translated.float(), seen.genome.detach().float())
        hazards, risk = self.head(self.output(fused))
        return SurvivalOutput(hazards, risk, {"alignment": alignment})

    def _in_squares(self, genomics: Tensor, bags: Sequence[Tensor]) -> Translation:
        """All patients, those together whose bags fill a square of one size."""
        sides = [_side(len(bag)) for bag in bags]
        found: list[Translation | None] = [None] * len(bags)
        for side in sorted(set(sides)):
            own = [number for number, one in enumerate(sides) if one == side]
            filled = torch.stack([torch.cat([bags[at], bags[at][: side * side - len(bags[at])]]) for at in own])
            translated = self.translate(genomics[own], filled)
            for place, number in enumerate(own):
                found[number] = Translation(*(part[place] for part in translated))
        return Translation(*(torch.stack(parts) for parts in zip(*(one for one in found if one), strict=True)))

    def translate(self, genomics: Tensor, bags: Tensor) -> Translation:
        """Patients whose bags are of one size.

        Args:
            genomics: `(B, F)`, scaled.
            bags: `(B, N, C)`, all instances real.
        """
        embedded = [embed(genomics[:, group]) for embed, group in zip(self.embed_groups, self._groups, strict=True)]
        slide, slide_tokens = self.encode_bag(self.embed_bag(bags))  # (B, D), (B, N', D)
        genome, genome_tokens = self.encode_groups(torch.stack(embedded, 1))  # (B, D), (B, G, D)
        slide_translated, _ = self.decode_bag(self.ask_groups(slide_tokens, genome_tokens))
        genome_translated, _ = self.decode_groups(self.ask_bag(genome_tokens, slide_tokens))
        return Translation(slide, slide_translated, genome, genome_translated)


class _Transformer(nn.Module):
    """Two Nyström layers over tokens led by one of its own; between them a convolution where tokens lie in a square."""

    def __init__(self, dim: int, dropout: float, *, square: bool) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, dim) * 1e-6)
        self.first, self.second = (NystromLayer(dim, 8, dim // 2, 6, 33, dropout) for _ in range(2))
        self.square = PositionPyramid(dim) if square else None
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N, D)` to the own token `(B, D)` and the others, filled up to a square with the first of them."""
        count = tokens.shape[1]
        side = _side(count)
        if self.square is not None:
            tokens = torch.cat([tokens, tokens[:, : side * side - count]], 1)  # (B, side², D)
        tokens = self.first(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1))
        if self.square is not None:
            tokens = torch.cat([tokens[:, :1], self.square(tokens[:, 1:], side)], 1)
        tokens = self.norm(self.second(tokens))
        return tokens[:, 0], tokens[:, 1:]


class _Question(nn.Module):
    """Attention with one head: each token of one modality takes what it looks for among those of the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, others: Tensor) -> Tensor:
        """`(B, N, D)` and `(B, M, D)` to `(B, N, D)`."""
        q, k, v = self.query(tokens)[:, None], self.key(others)[:, None], self.value(others)[:, None]  # one head
        given: Tensor = self.proj(attend(q, k, v)[:, 0])
        return given


def _side(count: int) -> int:
    """Side of the smallest square that holds so many."""
    return isqrt(count - 1) + 1


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
