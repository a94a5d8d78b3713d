"""Settings of cross-validation."""

from __future__ import annotations

from pydantic import Field

from pipelines.config.section import Section

__all__ = ["CrossValidationSettings"]


class CrossValidationSettings(Section):
    """Every fold is the test part once. `split.folds` or `split.by` says what the folds are; each is a run of its own
    inside the run."""

    repeats: int = Field(default=1, ge=1, le=100)
    """How often all folds are drawn and trained anew; repeat `r` takes the seed of the workflow plus `r`."""
    only: tuple[int, ...] = ()
    """Folds to train, counted from 0; empty is all of them."""
