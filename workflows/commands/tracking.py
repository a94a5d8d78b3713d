"""`dashboard` and `track`: the experiment store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import ExitCode
from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, say

__all__ = ["dashboard", "track"]

track = typer.Typer(help="What was not delivered to a tracking server yet.", no_args_is_help=True)


def dashboard(
    uri: Annotated[str | None, typer.Option(help="Tracking store; the one of `--output` where none is named.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> int:
    """Show the experiments in a browser, on this machine only. Ctrl-C stops it."""
    from pipelines.tracking.dashboard import serve

    return serve(uri, output=output, port=port)


@track.command("sync")
def sync(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    json: JsonOption = False,
) -> int:
    """Deliver what a server that was away has missed."""
    from pipelines.runs import RunFolder
    from pipelines.tracking import sync as deliver

    reports = {str(folder): deliver(RunFolder(folder)) for folder in runs}
    if json:
        print_json({name: report.as_dict() for name, report in reports.items()})
    else:
        for name, report in reports.items():
            say(f"{name}: {report}")
        next_steps({}, ["pulvinar dashboard"])
    return ExitCode.OK if all(report.complete for report in reports.values()) else ExitCode.ENVIRONMENT
