"""`model.attention`: one section for each token mixer of the attention core, chosen by name."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, create_model

from pipelines.config.section import Section
from pipelines.errors import ConfigurationError
from shared_attention import Card, cards

__all__ = ["AttentionSettings", "NoAttention", "check_attention"]

_KINDS = ("mixer", "gate")
_VOLUMES_OR_IMAGES = frozenset({2, 3})


class NoAttention(Section):
    """No attention: a purely convolutional network."""

    name: Literal["none"] = "none"
    """Mechanism."""


def _serves(card: Card, ranks: frozenset[int]) -> bool:
    return card.kind in _KINDS and "self" in card.patterns and bool(card.ranks & ranks)


def _section(card: Card) -> type[Section]:
    """The settings of one mechanism, made from its arguments."""
    fields: dict[str, Any] = {
        name: (argument.annotation, Field(default=argument.default, description=argument.description))
        for name, argument in card.arguments.items()
        if name not in ("context_dim", "causal")
    }
    title = "".join(word.capitalize() for word in card.name.split("_")) + "Attention"
    named: Any = (Literal[card.name], Field(default=card.name, description="Mechanism."))  # type: ignore[name-defined]
    return create_model(title, __base__=Section, __doc__=f"{card.title} ({card.year}).", name=named, **fields)


def _union() -> Any:
    sections = [_section(card) for card in cards().values() if _serves(card, _VOLUMES_OR_IMAGES)]
    union: Any = NoAttention
    for section in sections:
        union = union | section
    return union


AttentionSettings = _union()


def check_attention(name: str, rank: int) -> None:
    """Raises `ConfigurationError` when the mechanism does not serve grids of `rank` axes, and lists those that do."""
    able = [card.name for card in cards().values() if _serves(card, frozenset({rank}))]
    if name != "none" and name not in able:
        raise ConfigurationError(
            f"model.attention.name: {name} does not serve grids of {rank} axes; use one of: none, {', '.join(able)}"
        )
