"""`model.attention`: one section for each token mixer of the attention core, chosen by name."""

from __future__ import annotations

from pipelines.config.section import Section
from pipelines.config.variants import union_of, variant
from pipelines.errors import ConfigurationError
from shared_attention import Card, cards

__all__ = ["AttentionSettings", "NoAttention", "check_attention"]

_KINDS = ("mixer", "gate")
_DECIDED_HERE = ("context_dim", "causal")
"""Arguments that make no sense for voxels of one image."""

NoAttention: type[Section] = variant("none", {}, description="No attention: a purely convolutional network.")


def _serves(card: Card, *ranks: int) -> bool:
    return card.kind in _KINDS and "self" in card.patterns and not card.ranks.isdisjoint(ranks)


def _section(card: Card) -> type[Section]:
    """The settings of one mechanism, made from its arguments."""
    arguments = {
        name: (argument.annotation, argument.default, argument.description)
        for name, argument in card.arguments.items()
        if name not in _DECIDED_HERE
    }
    return variant(card.name, arguments, description=f"{card.title} ({card.year}).")


AttentionSettings = union_of([NoAttention, *(_section(card) for card in cards().values() if _serves(card, 2, 3))])


def check_attention(name: str, rank: int) -> None:
    """Asks the card of a mechanism whether it serves the cases.

    Args:
        name: Name of the mechanism, or `none`.
        rank: Axes of the cases.

    Raises:
        ConfigurationError: It does not serve grids of that many axes; the message lists those that do.
    """
    able = [card.name for card in cards().values() if _serves(card, rank)]
    if name != "none" and name not in able:
        raise ConfigurationError(
            f"model.attention.name: {name} does not serve grids of {rank} axes; use one of: none, {', '.join(able)}"
        )
