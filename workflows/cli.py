"""The commands, put together. Each lives in a module of its own and imports what is heavy when it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from workflows.commands import (
    evaluation,
    information,
    mechanisms,
    prediction,
    reid,
    running,
    slides,
    starting,
    tracking,
    video,
)
from workflows.tasks import register_tasks

__all__ = ["app"]

app = typer.Typer(
    name="pulvinar",
    help="From one YAML file to a trained, judged and tracked model, and predictions on clinical data.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from pipelines.experiment.environment import pulvinar_version

        typer.echo(f"pulvinar {pulvinar_version()}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    register_tasks()


WORK, RESULTS, INFORMATION = "Work", "Results", "Information"

app.command(rich_help_panel=WORK)(running.run)
app.command(rich_help_panel=WORK)(running.plan)
app.command(rich_help_panel=WORK)(running.validate)
app.command(rich_help_panel=WORK)(running.explain)
app.command(rich_help_panel=WORK)(prediction.predict)
app.add_typer(slides.slides, name="slides", rich_help_panel=WORK)
app.add_typer(reid.reid, name="reid", rich_help_panel=WORK)
app.add_typer(video.video, name="video", rich_help_panel=WORK)
app.command(rich_help_panel=WORK)(starting.init)
app.command(rich_help_panel=RESULTS)(evaluation.evaluate)
app.command(rich_help_panel=RESULTS)(evaluation.report)
app.command(rich_help_panel=RESULTS)(evaluation.compare)
app.command(rich_help_panel=RESULTS)(tracking.dashboard)
app.add_typer(tracking.track, name="track", rich_help_panel=RESULTS)
app.command("list", rich_help_panel=INFORMATION)(information.list_things)
app.command(rich_help_panel=INFORMATION)(information.schema)
app.command(rich_help_panel=INFORMATION)(information.doctor)
app.add_typer(mechanisms.attention, name="attention", rich_help_panel=INFORMATION)
