"""`model.mixer`: one section for each token mixer of the attention core that serves time × joints."""

from __future__ import annotations

from typing import Any

from pipelines.config.section import Section
from pipelines.config.variants import union_of, variant
from pipelines.errors import ConfigurationError
from shared_attention import Card, TokenMixer, build, cards

__all__ = ["MixerSettings", "make_mixer", "mixer_named"]

_RANK = 2


def _serves(card: Card) -> bool:
    return card.kind in ("mixer", "gate") and "self" in card.patterns and _RANK in card.ranks


def _section(card: Card) -> type[Section]:
    arguments: dict[str, tuple[Any, Any, str]] = {
        name: (argument.annotation, argument.default, argument.description)
        for name, argument in card.arguments.items()
        if name not in ("context_dim", "causal")
    }
    return variant(card.name, arguments, description=f"{card.title} ({card.year}).")


_SECTIONS = {card.name: _section(card) for card in cards().values() if _serves(card)}
MixerSettings = union_of(list(_SECTIONS.values()))
"""Mixers of the attention core on two grid axes."""


def mixer_named(name: str) -> Section:
    """The section of a mixer with its defaults."""
    return _SECTIONS[name]()


def make_mixer(settings: Section, dim: int) -> TokenMixer:
    """A mixer on time × joints. Raises `ConfigurationError` when it refuses its arguments or the channels."""
    arguments = settings.model_dump()
    name = arguments.pop("name")
    try:
        made: TokenMixer = build(name, dim, rank=_RANK, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"model.mixer: {name} cannot be built for {dim} channels: {error}") from error
    return made
