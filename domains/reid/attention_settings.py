"""`model.attention`: one section for each mechanism of the attention core that serves pictures, chosen by name."""

from __future__ import annotations

from pipelines.config.section import Section
from pipelines.config.variants import union_of, variant
from pipelines.errors import ConfigurationError
from shared_attention import Card, build, cards
from shared_attention.contract import TokenMixer

__all__ = ["AttentionSettings", "make_mixer", "section_named"]

_KINDS = ("mixer", "gate")
_DECIDED_HERE = ("context_dim", "causal")
"""Arguments that make no sense for the places of one picture."""
_RANK = 2

NoAttention: type[Section] = variant("none", {}, description="Nothing beside the network itself.")


def _serves(card: Card) -> bool:
    return card.kind in _KINDS and "self" in card.patterns and _RANK in card.ranks


def _section(card: Card) -> type[Section]:
    arguments = {
        name: (argument.annotation, argument.default, argument.description)
        for name, argument in card.arguments.items()
        if name not in _DECIDED_HERE
    }
    return variant(card.name, arguments, description=f"{card.title} ({card.year}).")


_SECTIONS = {"none": NoAttention} | {card.name: _section(card) for card in cards().values() if _serves(card)}
AttentionSettings = union_of(list(_SECTIONS.values()))


def section_named(name: str) -> Section:
    """The section of a mechanism with its defaults."""
    return _SECTIONS[name]()


def make_mixer(settings: Section, channels: int) -> TokenMixer:
    """A mixer on two grid axes. Raises `ConfigurationError` when it refuses its arguments or the channels."""
    arguments = settings.model_dump()
    name = arguments.pop("name")
    try:
        made: TokenMixer = build(name, channels, rank=_RANK, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"model.attention: {name} cannot be built for {channels} channels: {error}") from error
    return made
