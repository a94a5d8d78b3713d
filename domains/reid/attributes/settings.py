"""The sections of a workflow with one embedding for each attribute."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from domains.reid.settings import HeadSettings, LossSettings, PictureWorkflow, VitSettings
from pipelines.config.section import Section

__all__ = ["AttributeWorkflow", "ConditionSettings"]


class ConditionSettings(Section):
    """How an attribute asks the picture (conditional cross-attention), and how its embedding is learned."""

    attributes: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """What pictures are compared by, an embedding each: columns of the table or names in `data.pattern`; `camera` and
    `view` too."""
    fusion: Literal["condition", "token"] = "condition"
    """What the query of the last block is: a learned vector of the attribute, or that vector added to the class
    token."""
    margin: float = Field(default=0.2, gt=0, le=2)
    """By how much the cosine of pictures with one value should exceed that of pictures with two."""


class AttributeWorkflow(PictureWorkflow):
    """A workflow with one embedding for each attribute. A group is an identity, as in retrieval."""

    has_heads: ClassVar[bool] = False
    condition: ConditionSettings
    """What pictures are compared by, and how."""
    model: VitSettings = VitSettings()
    """The network: its last block gives way to the conditional one."""

    @model_validator(mode="after")
    def _what_does_not_apply(self) -> Self:
        if self.model.dcal is not None or self.model.attention.name != "full":
            raise ValueError("conditional attention needs a plain transformer: leave dcal and attention out")
        for name, default in (("head", HeadSettings()), ("loss", LossSettings())):
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} has no meaning here: embeddings come from the block itself, and are learned "
                    "by triplets of each attribute; leave it out"
                )
        if len(set(self.condition.attributes)) != len(self.condition.attributes):
            raise ValueError("condition.attributes names one twice")
        return self
