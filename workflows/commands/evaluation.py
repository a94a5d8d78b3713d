"""`evaluate`, `report` and `compare`: how good a model is, and which of two is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.errors import DataError, ExitCode
from pipelines.runs import RunFolder
from workflows.commands.arguments import JsonOption, ModelChanges, Overrides, RunArgument, settings_of
from workflows.commands.running import load, print_summary
from workflows.console import next_steps, print_json, print_table, say

__all__ = ["compare", "evaluate", "report"]


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, or the run folder that holds it.")],
    cases: Annotated[
        str, typer.Argument(metavar="CASES", help="A workflow, or a run folder, whose cases the model is judged on.")
    ],
    overrides: Overrides = None,
    part: Annotated[str, typer.Option(help="train, validation, test, or all.")] = "test",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables.")] = Path("evaluation"),
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")] = "auto",
    changes: ModelChanges = None,
    json: JsonOption = False,
) -> int:
    """Judge a model on cases with a reference."""
    from pipelines.experiment.standalone import evaluate_model

    workflow = str(Path(cases) / "config.yaml") if (Path(cases) / "config.yaml").is_file() else cases
    outcome = evaluate_model(
        model,
        load(workflow, overrides),
        part=part,
        out=out,
        device=device,
        changes=settings_of(changes or ()),
        say=say,
    )
    if json:
        print_json(
            {"part": part, "summary": outcome.summary.to_dict("records"), "failed": dict(outcome.failed), "out": out}
        )
    else:
        print_summary(outcome.summary, f"{len(outcome.cases)} cases, {part}")
        for case_id, reason in outcome.failed.items():
            say(f"failed {case_id}: {reason}")
        next_steps({"tables": out}, [])
    return ExitCode.SOME_FAILED if outcome.failed else ExitCode.OK


def report(run: RunArgument) -> int:
    """Write the report of a run again, from the files in its folder."""
    from pipelines.reporting import build_report

    folder = RunFolder(run)
    if not folder.config.is_file():
        raise DataError(
            f"{run} is not a run folder: it has no config.yaml", hint="Run folders look like runs/NAME/001."
        )
    next_steps({"report": build_report(folder)}, ["pulvinar compare RUN RUN"])
    return ExitCode.OK


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Two run folders or more; the first is the reference.")
    ],
    metric: Annotated[str | None, typer.Option(help="One metric only.")] = None,
    common: Annotated[bool, typer.Option("--common", help="Compare on the cases that all runs have.")] = False,
    json: JsonOption = False,
) -> int:
    """Compare runs on the same cases: paired differences with confidence intervals."""
    from pipelines.evaluation import compare_runs

    table = compare_runs([RunFolder(run) for run in runs], common_only=common)
    if metric is not None:
        known = sorted(table["metric"].unique())
        if metric not in known:
            raise DataError(f"no metric {metric!r} in these runs; use one of: {', '.join(known)}")
        table = table[table["metric"] == metric]
    if json:
        print_json(table.to_dict("records"))
    else:
        print_table(list(table.columns), table.itertuples(index=False))
        next_steps({}, ["pulvinar dashboard"])
    return ExitCode.OK
