"""`list`, `schema` and `doctor`: what there is, and whether this machine can use it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.errors import ExitCode
from workflows.commands.arguments import JsonOption
from workflows.commands.mechanisms import list_attention
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.modelfolder import ModelRecord

__all__ = ["doctor", "list_things", "schema"]


class Listed(StrEnum):
    """What can be listed."""

    WORKFLOWS = "workflows"
    MODELS = "models"
    ATTENTION = "attention"


def list_things(
    what: Annotated[Listed, typer.Argument(help="workflows, models or attention.")],
    output: Annotated[Path, typer.Option(help="Folder of run folders (for models).")] = Path("runs"),
    json: JsonOption = False,
) -> int:
    """List the workflows of the catalogue, the trained models, or the attention mechanisms."""
    if what is Listed.WORKFLOWS:
        _list_workflows(json)
    elif what is Listed.MODELS:
        _list_models(output, json)
    else:
        list_attention(json)
    return ExitCode.OK


def _list_workflows(json: bool) -> None:
    from workflows.catalogue import catalogue
    from workflows.tasks import TASKS

    entries = catalogue()
    if json:
        print_json([{"name": x.name, "path": x.path, "summary": x.summary} for x in entries])
        return
    print_table(("workflow", "what it does"), [(entry.name, entry.summary) for entry in entries])
    typer.echo()
    print_table(("task", "what it learns"), [(task.name, task.summary) for task in TASKS])
    next_steps({}, [f"pulvinar plan {entries[0].name}", f"pulvinar init {TASKS[0].name} my-project"])


def _list_models(output: Path, json: bool) -> None:
    from pipelines.errors import ModelFolderError
    from pipelines.modelfolder import read_model_record

    models: list[ModelRecord] = []
    for record in sorted(output.glob("*/*/model/model.yaml")):
        try:
            models.append(read_model_record(record.parent))
        except ModelFolderError as error:
            say(f"{record.parent} is left out: {error.message}")
    if json:
        print_json(
            [
                {
                    "folder": model.folder,
                    "task": model.task,
                    "parameters": model.parameters,
                    "metrics": model.metrics,
                    "created": model.created,
                }
                for model in models
            ]
        )
        return
    if not models:
        typer.echo(f"no trained model in {output}")
        next_steps({}, ["pulvinar run medical/hippocampus-quick"])
        return
    print_table(
        ("model", "task", "parameters", "part", "scores", "created"),
        [
            (
                model.folder,
                model.task,
                f"{model.parameters:,}",
                model.metrics.get("part", ""),
                _scores(model),
                model.created,
            )
            for model in models
        ],
    )
    next_steps({}, [f"pulvinar predict {models[-1].folder} SCANS --out predictions"])


def _scores(model: ModelRecord) -> str:
    """The means over classes, or every score of a model with one class."""
    scores = {name: value for name, value in model.metrics.items() if isinstance(value, float)}
    means = {name.removeprefix("mean/"): value for name, value in scores.items() if name.startswith("mean/")}
    return ", ".join(f"{name} {value:.3g}" for name, value in list((means or scores).items())[:4])


def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; standard output by default.")] = None,
) -> int:
    """Write the JSON Schema that editors complete workflow files from."""
    import json

    from pipelines.config import json_schema
    from pipelines.runs import write_atomically

    text = json.dumps(json_schema(), indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
        return ExitCode.OK
    write_atomically(out, text)
    next_steps({"schema": out}, [f"add this line to a workflow:  # yaml-language-server: $schema={out}"])
    return ExitCode.OK


def doctor(json: JsonOption = False) -> int:
    """Check that this machine has what Pulvinar needs."""
    from workflows.diagnosis import diagnose

    checks = diagnose()
    if json:
        print_json([{"check": x.name, "state": x.state, "found": x.found, "hint": x.hint} for x in checks])
    else:
        print_table(("check", "state", "found", "what to do"), [(x.name, x.state, x.found, x.hint) for x in checks])
    broken = [check for check in checks if check.state == "broken"]
    if not json:
        next_steps({}, ["make install"] if broken else ["pulvinar run medical/hippocampus-quick"])
    return ExitCode.ENVIRONMENT if broken else ExitCode.OK
