"""How cases are divided into training, validation and test parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.config.section import Section

__all__ = ["SplitSettings"]


class SplitSettings(Section):
    """How cases are divided: always by group, so that nothing of one patient stands in two parts."""

    folds: int | None = Field(default=None, ge=2, le=100)
    """Number of folds; each group is in the test part of exactly one. Empty: one division by fractions."""
    fold: int = Field(default=0, ge=0)
    """Which fold is the test part, from 0."""
    test: float = Field(default=0.2, ge=0, lt=1)
    """Share of the cases in the test part (without folds). 0 leaves the test part empty."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of the cases outside the test part that choose the best checkpoint. 0 leaves the validation part empty."""
    stratify: str | None = None
    """Label whose values are kept in proportion in every part, where the groups allow it."""
    use_given: bool = True
    """Keep the parts that the data name themselves (a `split` column, a given test list); draw only what is missing."""
    identical_files: Literal["error", "warn", "ignore"] = "error"
    """What to do when cases of different parts hold the same file, byte for byte."""

    @model_validator(mode="after")
    def _fold_exists(self) -> SplitSettings:
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist: with {self.folds} folds use 0 to {self.folds - 1}")
        if self.folds is None and self.fold:
            raise ValueError(f"fold {self.fold} needs 'folds': the number of folds, for example 5")
        return self
