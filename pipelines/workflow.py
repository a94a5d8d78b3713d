"""The sections that every workflow file has, whatever its domain."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from pipelines.config.section import Section
from pipelines.evaluation.settings import EvaluationSettings
from pipelines.experiment.crosssettings import CrossValidationSettings
from pipelines.splits import SplitSettings
from pipelines.tracking.settings import TrackingSettings
from pipelines.training.settings import TrainingSettings

__all__ = ["WorkflowConfig"]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class WorkflowConfig(Section):
    """A workflow. A domain's task adds `data`, `model` and what else it needs."""

    task: str
    """Which task this is, for example `medical/segmentation`; `pulvinar list workflows` shows them."""
    name: Name
    """Name of the experiment: letters, digits, `.`, `_` and `-`."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of everything random in the run."""
    output: str = "runs"
    """Folder for run folders; relative to the folder the command is started in."""
    split: SplitSettings = SplitSettings()
    """How cases are divided."""
    cross_validation: CrossValidationSettings | None = None
    """Train and judge every fold instead of one; empty runs the one that `split` names."""
    train: TrainingSettings = TrainingSettings()
    """How the network is trained."""
    evaluate: EvaluationSettings = EvaluationSettings()
    """How results are summed up."""
    track: TrackingSettings = TrackingSettings()
    """Where the run is tracked."""
