"""`model.attention`: one section for each token mixer of the attention core, chosen by name."""

from __future__ import annotations

from typing import Literal

from pipelines.config.section import Section

__all__ = ["AttentionSettings", "NoAttention"]


class NoAttention(Section):
    """No attention: a purely convolutional network."""

    name: Literal["none"] = "none"
    """Mechanism."""


AttentionSettings = NoAttention
