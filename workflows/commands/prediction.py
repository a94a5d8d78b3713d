"""`predict`: a model on files, folders, globs or a manifest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from workflows.commands.arguments import JsonOption, ModelChanges, known_device, settings_of
from workflows.console import next_steps, print_json, print_table, say

__all__ = ["predict"]


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, or the run folder that holds it.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, or a manifest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and the ledger.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with the model; one for each device by default.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N.", callback=known_device, metavar="DEVICE")
    ] = "auto",
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one item may take.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Further tries after a crash, a timeout or lack of memory.")] = 1,
    max_failures: Annotated[int | None, typer.Option(min=1, help="Stop after so many failed items.")] = None,
    executor: Annotated[Literal["local", "ray"], typer.Option(help="This machine, or a Ray cluster.")] = "local",
    changes: ModelChanges = None,
    json: JsonOption = False,
) -> int:
    """Predict every item, and leave a ledger of what became of each. A second call does only what is missing."""
    from pipelines.inference import BatchSettings, predict_batch
    from pipelines.inference.progress import progress_reporter

    settings = BatchSettings(
        workers=workers,
        device=device,
        timeout=timeout,
        retries=retries,
        max_failures=max_failures,
        executor=executor,
        changes=settings_of(changes or ()),
    )
    with progress_reporter() as report:
        summary = predict_batch(model, inputs, out, settings, report=report)
    if json:
        print_json(summary.as_dict())
        return summary.exit_code
    print_table(("outcome", "items"), [(name, count) for name, count in summary.counts.items() if count])
    if summary.failures:
        print_table(("item", "outcome", "reason"), [(x.item_id, x.outcome, x.reason) for x in summary.failures])
    repeated = [part for change in changes or () for part in ("--set", change)]
    again = shlex.join(["pulvinar", "predict", str(model), *inputs, "--out", str(out), *repeated])
    if summary.stopped:
        say(f"stopped early: {summary.stopped}; {summary.not_attempted} items were not attempted")
    next_steps({"results": out, "ledger": summary.ledger}, [f"{again}   (does only what is missing or changed)"])
    return summary.exit_code
