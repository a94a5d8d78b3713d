"""The `data:` section of a survival workflow: a table of patients, and bags of features where there are slides."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.config.paths import FilePath
from pipelines.config.section import Section

__all__ = ["BagFiles", "PatientData", "SimulatedBags"]

Columns = tuple[Annotated[str, Field(min_length=1)], ...]


class BagFiles(Section):
    """Bags of features in files, one or several for each patient; several are taken together."""

    source: Literal["files"] = "files"
    """Files that the table names."""
    column: str = "bag"
    """Column of the file of each row (`.h5`, `.hdf5` or `.pt`); a patient with several slides has several rows."""
    folder: FilePath | None = None
    """Folder that the files lie in, or each in a folder of its own name; empty: the folder of the table."""
    suffix: str = ""
    """Added to what the column says, for example `.h5` where it holds the names of slides; it replaces `.svs` and such
    endings of slide files."""


class SimulatedBags(Section):
    """SIMULATED bags with a planted signal. They are drawn from the outcomes and say nothing about slides.

    They exercise a network that needs slides where a cohort comes without any. A share of the instances of a bag is
    moved along one direction, the further the earlier the patient's event; a patient with a late event and one who was
    censored late are moved the other way.
    """

    source: Literal["simulated"]
    """Drawn, not measured."""
    instances: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (32, 64)
    """Fewest and most instances of a bag."""
    features: int = Field(default=32, ge=1, le=4096)
    """Width of an instance."""
    share: float = Field(default=0.25, gt=0, le=1)
    """Share of the instances that carry the signal."""
    strength: float = Field(default=1.0, ge=0)
    """How far they are moved, in standard deviations of an instance, for a patient one deviation from the mean."""
    noise: float = Field(default=1.0, ge=0)
    """Standard deviation of what hides a patient's outcome from its own bag; 0 plants the outcome itself."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the bags."""
    folder: str = "simulated-bags"
    """Folder that the bags are written to, below `output`; bags that are there already are kept."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.instances[0] > self.instances[1]:
            raise ValueError(f"instances: the fewest, {self.instances[0]}, are more than the most, {self.instances[1]}")
        return self


class PatientData(Section):
    """A table with one row for each patient, or one for each slide of a patient: times, events and genomics.

    The defaults are the names in the tables that MCAT, CMTA and others use for cohorts of TCGA.
    """

    format: Literal["patients"] = "patients"
    """A table of patients."""
    file: FilePath
    """The table: `.csv`, `.tsv`, `.parquet`, or a `.zip` that holds one of them."""
    case_id: str = "case_id"
    """Column of the patients' identifiers. Rows of one identifier are slides of one patient and agree in all else."""
    group: str | None = None
    """Column of what must not be divided between parts, such as the hospital; empty: the patient."""
    time: str = "survival_months"
    """Column of the time until the event, or until the patient was lost from sight."""
    unit: str = "months"
    """Unit of the times, for figures and reports."""
    event: str | None = None
    """Column that is 1 where the event was seen; empty: it is read from `censored`."""
    censored: str | None = "censorship"
    """Column that is 1 where the patient was censored; not used where `event` is named."""
    features: Columns = ("*_rnaseq", "*_cnv", "*_mut")
    """Columns that the network looks at, as names or patterns with `*`; empty for slides alone."""
    covariates: Columns = ()
    """Further columns that it looks at, such as age; empty cells are allowed and count as average."""
    labels: Columns = ()
    """Columns kept as labels of the case, for `split.stratify`; `event` and `fold` always are."""
    folds: FilePath | None = None
    """Folder of files `splits_0.csv`, `splits_1.csv`, … with columns `train` and `val` (or `test`): the given
    folds. Fold K of a patient is the file that has it under `val`."""
    fold: str | None = None
    """Column of given folds, in place of such a folder: whole numbers from 0."""
    bags: Annotated[BagFiles | SimulatedBags, Field(discriminator="source")] | None = None
    """Bags of features, where there are slides."""

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if self.event is None and self.censored is None:
            raise ValueError("name a column: `event` (1 = the event was seen) or `censored` (1 = censored)")
        if self.folds is not None and self.fold is not None:
            raise ValueError("give `folds` (a folder of split files) or `fold` (a column), not both")
        return self
