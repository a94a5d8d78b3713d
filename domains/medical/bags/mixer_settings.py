"""`model.mixer`: one section for each token mixer of the attention core that suits a bag."""

from __future__ import annotations

from typing import Any

from pipelines.config.variants import union_of, variant
from shared_attention import Card, cards

__all__ = ["MixerSettings"]


def _serves(card: Card) -> bool:
    return card.kind in ("mixer", "gate") and "self" in card.patterns and 1 in card.ranks and not card.ordered


def _arguments(card: Card) -> dict[str, tuple[Any, Any, str]]:
    return {
        name: (argument.annotation, argument.default, argument.description)
        for name, argument in card.arguments.items()
        if name not in ("context_dim", "causal")
    }


MixerSettings = union_of(
    [
        variant(card.name, _arguments(card), description=f"{card.title} ({card.year}).")
        for card in cards().values()
        if _serves(card)
    ]
)
"""Mixers of the attention core to which the order of tokens means nothing."""
