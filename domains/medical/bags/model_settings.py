"""`model:` of a bag workflow: one section for each network, chosen by `name`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from domains.medical.bags.mixer_settings import MixerSettings
from pipelines.config.section import Section

__all__ = [
    "Abmil",
    "Acmil",
    "AcmilHeads",
    "Clam",
    "Dsmil",
    "Dtfd",
    "Max",
    "Mean",
    "Mixer",
    "ModelSettings",
    "Query",
    "TransMil",
]

Width = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Width, ...], Field(max_length=8)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Mean(Section):
    """The mean of all embedded instances."""

    name: Literal["mean"] = "mean"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; none takes the features as they are."""
    dropout: Dropout = 0.25
    """Dropout after each of these layers."""


class Max(Section):
    """The largest value of each channel over all embedded instances."""

    name: Literal["max"] = "max"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; none takes the features as they are."""
    dropout: Dropout = 0.25
    """Dropout after each of these layers."""


class Abmil(Section):
    """Attention-based MIL (Ilse et al., ICML 2018)."""

    name: Literal["abmil"] = "abmil"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; none takes the features as they are."""
    attention_hidden: Width = 128
    """Width of the hidden layer of the attention."""
    gated: bool = True
    """Whether the attention has a sigmoid gate."""
    dropout: Dropout = 0.25
    """Dropout after each embedding layer and in the attention."""


class Acmil(Section):
    """Attention-challenging MIL with gated attention (Zhang et al., ECCV 2024)."""

    name: Literal["acmil"] = "acmil"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; none takes the features as they are."""
    attention_hidden: Width = 128
    """Width of the hidden layer of the attention."""
    branches: Width = 5
    """Branches of the attention; 1 is plain gated attention."""
    masked: Annotated[int, Field(ge=0)] = 10
    """Instances with the highest attention, of each branch, that may be hidden in training."""
    mask_share: Share = 0.6
    """Share of them that is hidden; 0 hides none."""
    diversity: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss that keeps the branches from looking at the same instances."""
    dropout: Dropout = 0.25
    """Dropout after each embedding layer and in the attention."""


class AcmilHeads(Section):
    """Attention-challenging MIL with multi-head attention (Zhang et al., ECCV 2024)."""

    name: Literal["acmil_heads"] = "acmil_heads"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; the last is divided among the heads."""
    heads: Width = 8
    """Heads of each branch."""
    branches: Width = 5
    """Branches, each with a learned query."""
    masked: Annotated[int, Field(ge=0)] = 10
    """Instances with the highest attention, of each head, that may be hidden in training."""
    mask_share: Share = 0.6
    """Share of them that is hidden; 0 hides none."""
    diversity: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the loss that keeps the branches from looking at the same instances."""
    dropout: Dropout = 0.1
    """Dropout of what a branch has gathered."""


class Query(Section):
    """One learned query with several heads."""

    name: Literal["query"] = "query"
    """Network."""
    hidden: Widths = (256,)
    """Widths of the layers that embed an instance; the last is divided among the heads."""
    heads: Width = 8
    """Heads."""
    dropout: Dropout = 0.1
    """Dropout of what the query has gathered."""


class Clam(Section):
    """Clustering-constrained attention (Lu et al., 2021)."""

    name: Literal["clam"] = "clam"
    """Network."""
    hidden: Width = 256
    """Width of an embedded instance."""
    attention_hidden: Width = 128
    """Width of the hidden layer of the attention."""
    by_class: bool = False
    """An attention branch for each class (CLAM-MB) instead of one for all (CLAM-SB)."""
    instances: Width = 8
    """Instances with the highest and the lowest attention that are taught, of each."""
    subtyping: bool | None = None
    """Whether instances of a class that a bag is not of are taught as negative; null: with more than two classes."""
    bag_weight: Share = 0.7
    """Share of the bag in the loss; the rest is that of the instances."""
    dropout: Dropout = 0.25
    """Dropout after the embedding layer and in the attention."""


class Dsmil(Section):
    """Dual-stream MIL (Li et al., CVPR 2021)."""

    name: Literal["dsmil"] = "dsmil"
    """Network."""
    hidden: Widths = ()
    """Widths of layers that embed an instance first; none, as published, takes the features as they are."""
    query: Width = 128
    """Width of a query."""
    query_hidden: Width | None = 128
    """Width of the layer before it; null for a query that is linear in the instance."""
    values: bool = False
    """Whether values are a learned layer of the instances instead of the instances."""
    dropout: Dropout = 0.0
    """Dropout before that layer."""


class TransMil(Section):
    """Transformer-based correlated MIL (Shao et al., NeurIPS 2021)."""

    name: Literal["transmil"] = "transmil"
    """Network."""
    hidden: Width = 256
    """Width of an embedded instance."""
    heads: Width = 8
    """Heads, a divisor of the width."""
    landmarks: Width | None = None
    """Segments whose means stand for all instances; null is half of the width."""
    dropout: Dropout = 0.1
    """Dropout of what a layer adds."""


class Dtfd(Section):
    """Double-tier feature distillation (Zhang et al., CVPR 2022)."""

    name: Literal["dtfd"] = "dtfd"
    """Network."""
    hidden: Width = 256
    """Width of an embedded instance."""
    attention_hidden: Width = 128
    """Width of the hidden layers of the attention."""
    groups: Width = 4
    """Pseudo-bags that a bag is divided into."""
    instances: Width = 4
    """Instances that all pseudo-bags together hand to the second tier, of each kind."""
    distilled: Literal["max_min", "max", "features"] = "max_min"
    """What a pseudo-bag hands on: its highest and lowest instances, the highest alone, or its pooled features."""
    dropout: Dropout = 0.0
    """Dropout before a tier's last layer."""


class Mixer(Section):
    """A token mixer of the attention core among the instances, then gated attention pooling."""

    name: Literal["mixer"] = "mixer"
    """Network."""
    mixer: MixerSettings = Field(default={"name": "linear"})
    """Mechanism of the attention core, by name; those whose card says that order does not matter."""
    hidden: Width = 256
    """Width of an embedded instance."""
    layers: Width = 1
    """Layers of the mechanism."""
    attention_hidden: Width = 128
    """Width of the hidden layer of the pool."""
    dropout: Dropout = 0.25
    """Dropout after the embedding layer."""


ModelSettings = Annotated[
    Mean | Max | Abmil | Acmil | AcmilHeads | Query | Clam | Dsmil | TransMil | Dtfd | Mixer,
    Field(discriminator="name"),
]
"""The network, by `name`."""
