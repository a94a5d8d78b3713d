"""Settings of evaluation."""

from __future__ import annotations

from pydantic import Field

from pipelines.config.section import Section

__all__ = ["EvaluationSettings"]


class EvaluationSettings(Section):
    """How results are summed up."""

    resamples: int = Field(default=2000, ge=1000, le=100_000)
    """Bootstrap resamples of the groups behind each confidence interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    worst: int = Field(default=5, ge=0, le=1000)
    """How many of the worst cases are listed and drawn."""
