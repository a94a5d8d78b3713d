"""`run`, and what looks at a workflow without training: `plan`, `validate`, `explain`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cases import PARTS
from pipelines.errors import DataError, ExitCode
from workflows.commands.arguments import JsonOption, Overrides, WorkflowArgument
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.cases import CaseTable, Excluded
    from pipelines.config import ResolvedWorkflow
    from pipelines.experiment.preparation import PreparedCases
    from pipelines.task import Task

__all__ = ["explain", "load", "plan", "print_summary", "run", "validate"]

_SHOWN_OF_ONE_REASON = 20


def load(workflow: str, overrides: list[str] | None) -> ResolvedWorkflow:
    """The resolved workflow; notices go to standard error."""
    from pipelines.config import load_workflow
    from workflows.catalogue import find_workflow

    resolved = load_workflow(find_workflow(workflow), overrides or ())
    for notice in resolved.notices:
        say(notice)
    return resolved


def run(
    workflow: WorkflowArgument,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest unfinished run.")] = False,
    json: JsonOption = False,
) -> int:
    """Train, judge and track a workflow, from cases to report."""
    from pipelines.experiment.runner import run_workflow

    outcome = run_workflow(load(workflow, overrides), resume=resume, say=say)
    if outcome.summary.empty:
        return ExitCode.OK
    if json:
        print_json(
            {
                "run": str(outcome.run.root),
                "part": outcome.part,
                "summary": outcome.summary.to_dict("records"),
                "failed": dict(outcome.failed),
                "excluded": dict(outcome.excluded),
                "seconds": outcome.seconds,
            }
        )
    else:
        print_summary(outcome.summary, f"{outcome.part} part, means over cases with confidence intervals over groups")
        for case_id, reason in outcome.failed.items():
            say(f"failed {case_id}: {reason}")
        places = {"run": outcome.run.root, "report": outcome.run.report}
        steps = ["pulvinar dashboard"]
        if outcome.run.model.is_dir():
            places["model"] = outcome.run.model
            steps.insert(0, f"pulvinar predict {outcome.run.model} INPUTS --out predictions")
        else:
            places["folds"] = outcome.run.folds
        next_steps(places, steps)
    return ExitCode.SOME_FAILED if outcome.failed else ExitCode.OK


def plan(workflow: WorkflowArgument, overrides: Overrides = None, json: JsonOption = False) -> int:
    """Show what a run would do: cases, parameters, cost, files. Trains nothing, makes no run folder."""
    from pipelines.config import dump_yaml
    from pipelines.experiment.planning import measure_step
    from pipelines.experiment.preparation import prepare_cases

    resolved = load(workflow, overrides)
    task = _task(resolved)
    say("reading and checking the cases")
    cases = prepare_cases(task)
    task.fit(cases.part("train"))
    cost = measure_step(task, resolved.config.train.batch_size)
    files = _planned_files(resolved)
    if json:
        print_json(
            {
                "config": resolved.config.model_dump(mode="json"),
                "cases": {part: [case.case_id for case in cases.part(part)] for part in PARTS},
                "excluded": {item.case_id: item.reason for item in cases.excluded},
                "step": cost.as_dict(),
                "files": files,
            }
        )
        return ExitCode.OK
    typer.echo(dump_yaml(resolved.config).rstrip())
    typer.echo()
    _print_parts(cases)
    print_table(
        ("cost", "value"),
        [
            ("parameters", f"{cost.parameters:,}"),
            ("forward pass of a batch", f"{cost.forward_flops / 1e9:.2f} GFLOP"),
            ("memory of a training step, in float32", f"{cost.step_bytes / 2**20:,.0f} MiB"),
            *((f"batch: {name}", "×".join(map(str, shape))) for name, shape in cost.batch_shapes.items()),
        ],
    )
    typer.echo()
    print_table(("files to be written",), [(name,) for name in files])
    next_steps({}, [_command("run", workflow, overrides)])
    return ExitCode.OK


def validate(workflow: WorkflowArgument, overrides: Overrides = None, json: JsonOption = False) -> int:
    """Check a workflow and open every case once. Trains nothing."""
    from pipelines.experiment.preparation import check_cases
    from pipelines.splits import draw_splits

    resolved = load(workflow, overrides)
    task = _task(resolved)
    table = task.read_cases()
    facts, refused = check_cases(task, table.cases)
    excluded = [*table.excluded, *refused]
    problems = [item for item in excluded if not item.expected]
    if facts:
        draw_splits(table.without(item.case_id for item in refused), resolved.config.split, resolved.config.seed)
    if json:
        print_json(
            {
                "cases": len(facts) + len(excluded),
                "usable": len(facts),
                "problems": [{"case_id": x.case_id, "reason": x.reason, "hint": x.hint} for x in problems],
                "left_out": [{"case_id": x.case_id, "reason": x.reason} for x in excluded if x.expected],
                "report": table.about.get("report"),
            }
        )
    else:
        _print_reading(table)
        typer.echo(f"{len(facts)} of {len(facts) + len(excluded)} cases can be used")
        if problems:
            _print_problems(problems)
        next_steps({}, [_command("plan" if facts else "validate", workflow, overrides)])
    if not facts:
        raise DataError("no case can be used", hint="The table above says why.")
    return ExitCode.DATA if problems else ExitCode.OK


def explain(
    workflow: WorkflowArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A dotted key, like train.lr.")],
    overrides: Overrides = None,
    json: JsonOption = False,
) -> int:
    """Show a setting's value, where it came from, and what it means."""
    from pipelines.config import explain as look_up

    explanation = look_up(load(workflow, overrides), key)
    if json:
        print_json(explanation.as_dict())
    else:
        typer.echo(str(explanation))
        next_steps({}, [_command("run", workflow, [*(overrides or ()), f"{key}=…"])])
    return ExitCode.OK


def _task(resolved: ResolvedWorkflow) -> Task:
    from pipelines.task import find_task

    return find_task(resolved.config.task).load()(resolved.config)


def _command(verb: str, workflow: str, overrides: list[str] | None) -> str:
    return " ".join(["pulvinar", verb, workflow, *(overrides or ())])


def _print_reading(table: CaseTable) -> None:
    """What was counted while the cases were read, where the reader of the data set counts anything."""
    rows = []
    for name, value in table.about.get("report", {}).items():
        counted = [f"{number:,} {what}" for what, number in value.items()] if isinstance(value, Mapping) else [value]
        rows += [(name if first == 0 else "", told) for first, told in enumerate(counted)]
    if rows:
        print_table(("read", ""), rows)
        typer.echo()


def _print_problems(problems: Sequence[Excluded]) -> None:
    """Single cases under the reason that they share; of many alike, the first ones."""
    shown, count = [], Counter[str]()
    for item in problems:
        count[item.reason] += 1
        if count[item.reason] <= _SHOWN_OF_ONE_REASON:
            shown.append((item.case_id, item.reason, item.hint))
    more = {reason: found - _SHOWN_OF_ONE_REASON for reason, found in count.items() if found > _SHOWN_OF_ONE_REASON}
    shown += [(f"{found:,} more", reason, "--json lists all") for reason, found in more.items()]
    print_table(("case", "reason", "what to do"), shown)


def _print_parts(cases: PreparedCases) -> None:
    rows: list[tuple[Any, ...]] = []
    for part in PARTS:
        chosen = cases.part(part)
        names = ", ".join(case.case_id for case in chosen[:4]) + (", …" if len(chosen) > 4 else "")
        rows.append((part, len(chosen), len({case.group for case in chosen}), names))
    if cases.excluded:
        names = "; ".join(f"{item.case_id}: {item.reason}" for item in cases.excluded[:4])
        rows.append(("set aside", len(cases.excluded), "", names))
    print_table(("part", "cases", "groups", "first"), rows)
    typer.echo()


def _planned_files(resolved: ResolvedWorkflow) -> list[str]:
    from pipelines.runs import RunFolder

    run = RunFolder(Path(resolved.config.output) / resolved.config.name / "NNN")
    places = (
        run.config,
        run.provenance,
        run.environment,
        run.cases,
        run.splits,
        run.excluded,
        run.history,
        run.checkpoints / "last",
        run.checkpoints / "best",
        run.evaluation,
        run.figures,
        run.model / "model.safetensors",
        run.model / "model.yaml",
        run.report,
    )
    return [str(place) for place in places]


def print_summary(summary: Any, title: str) -> None:
    """The summary of an evaluation as a table."""
    rows = [
        (
            row["class"],
            row["metric"],
            row["mean"],
            f"{row['low']:.4g} to {row['high']:.4g}" if row["low"] == row["low"] else "–",
            row["cases"],
            row["undefined"],
            row["failed"],
        )
        for row in summary.to_dict("records")
    ]
    print_table(("class", "metric", "mean", "interval", "cases", "undefined", "failed"), rows, title=title)
