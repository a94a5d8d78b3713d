"""Token mixers of the attention core as a choice in a workflow: those that serve a grid of so many axes, by name."""

from __future__ import annotations

from functools import cache
from typing import Any

from pipelines.config.section import Section
from pipelines.config.variants import union_of, variant
from pipelines.errors import ConfigurationError
from shared_attention import Card, TokenMixer, build, cards

__all__ = ["make_mixer", "mixer_named", "mixers_of"]

_NOT_SET = ("context_dim", "causal")
"""Arguments that a mixer of a clip has no use for: it looks at itself, at all times."""


def mixers_of(rank: int) -> Any:
    """The annotation of a setting that names a mixer of grids of `rank` axes."""
    return union_of(list(_sections(rank).values()))


def mixer_named(name: str, *, rank: int) -> Section:
    """The section of a mixer with its defaults."""
    return _sections(rank)[name]()


def make_mixer(settings: Section, dim: int, *, rank: int) -> TokenMixer:
    """A mixer of `dim` channels. Raises `ConfigurationError` when it refuses its arguments or the channels."""
    arguments = settings.model_dump()
    name = arguments.pop("name")
    try:
        made: TokenMixer = build(name, dim, rank=rank, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"model.mixer: {name} cannot be built for {dim} channels: {error}") from error
    return made


@cache
def _sections(rank: int) -> dict[str, type[Section]]:
    return {card.name: _section(card) for card in cards().values() if _serves(card, rank)}


def _serves(card: Card, rank: int) -> bool:
    return card.kind in ("mixer", "gate") and "self" in card.patterns and rank in card.ranks


def _section(card: Card) -> type[Section]:
    arguments: dict[str, tuple[Any, Any, str]] = {
        name: (argument.annotation, argument.default, argument.description)
        for name, argument in card.arguments.items()
        if name not in _NOT_SET
    }
    return variant(card.name, arguments, description=f"{card.title} ({card.year}).")
