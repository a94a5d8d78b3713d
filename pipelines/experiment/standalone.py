"""Evaluation of a model folder on cases it was not trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.cases import Case
from pipelines.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.config import ResolvedWorkflow

__all__ = ["ModelEvaluation", "evaluate_model"]

PARTS = ("train", "validation", "test", "all")


@dataclass(frozen=True)
class ModelEvaluation:
    """What a model came to on some cases."""

    cases: tuple[Case, ...]
    table: pd.DataFrame
    summary: pd.DataFrame
    failed: Mapping[str, str]


def evaluate_model(
    model: Path,
    resolved: ResolvedWorkflow,
    *,
    part: str,
    out: Path,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    changes: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ModelEvaluation:
    """Judges a model on the cases of a workflow and writes `PART.cases.csv` and `PART.summary.csv` into `out`.

    Args:
        model: A model folder, or the run folder that holds it.
        resolved: The workflow that names the cases and how they are divided; its model and training are not used.
        part: `train`, `validation`, `test` or `all`.
        out: Folder for the tables.
        device: `auto`, `cpu` or `cuda`.
        changes: Dotted keys of what the model serves with → other values, for example another `infer.overlap`.
        say: Takes lines of progress.

    Raises:
        ConfigurationError: `part` is none of the parts, the workflow is for another task than the model, or `changes`
            names a setting that it does not have.
        DataError: The part has no cases that can be used.
        ModelFolderError: The model cannot be loaded.
    """
    import torch

    from pipelines.experiment.judgement import judge_cases, summarise_judgement, write_tables
    from pipelines.experiment.preparation import prepare_cases, told_excluded
    from pipelines.modelfolder import load_model
    from pipelines.training import choose_device

    if part not in PARTS:
        raise ConfigurationError(f"there is no part {part!r}; use one of: {', '.join(PARTS)}")
    config = resolved.config
    chosen_device = torch.device(choose_device(device))
    loaded = load_model(model, device=chosen_device, changes=changes)
    if loaded.task.name != config.task:
        raise ConfigurationError(f"the model is for {loaded.task.name}, the workflow for {config.task}")
    task = loaded.task.with_workflow(config)
    prepared = prepare_cases(task)
    judged = tuple(prepared.table) if part == "all" else prepared.part(part)
    if not judged:
        raise DataError(
            f"the {part} part has no cases", hint=f"`--part` takes {', '.join(PARTS)}; `pulvinar plan` shows the parts."
        )
    for line in told_excluded(prepared.excluded):
        say(line)
    say(f"judging {len(judged)} cases")
    judgement = judge_cases(task, task.predictor(loaded.network, device=chosen_device), judged)
    summary = summarise_judgement(task, judgement, config.evaluate, seed=config.seed)
    write_tables(judgement.table, judgement.predictions, summary, out, part)
    return ModelEvaluation(judged, judgement.table, summary, judgement.failures)
