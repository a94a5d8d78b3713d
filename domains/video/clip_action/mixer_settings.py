"""`model.mixer`: one section for each token mixer of the attention core that serves time × rows × columns."""

from __future__ import annotations

from domains.video.action import mixers
from pipelines.config.section import Section
from shared_attention import TokenMixer

__all__ = ["MixerSettings", "make_mixer", "mixer_named"]

_RANK = 3
MixerSettings = mixers.mixers_of(_RANK)
"""Mixers of the attention core on three grid axes."""


def mixer_named(name: str) -> Section:
    """The section of a mixer with its defaults."""
    return mixers.mixer_named(name, rank=_RANK)


def make_mixer(settings: Section, dim: int) -> TokenMixer:
    """A mixer on time × rows × columns. Raises `ConfigurationError` when it refuses its arguments or the channels."""
    return mixers.make_mixer(settings, dim, rank=_RANK)
