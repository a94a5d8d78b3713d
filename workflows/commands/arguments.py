"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["JsonOption", "Overrides", "RunArgument", "WorkflowArgument"]

WorkflowArgument = Annotated[
    str,
    typer.Argument(metavar="WORKFLOW", help="A workflow file, or a name from `pulvinar list workflows`."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that replace those of the file, like train.lr=1e-4."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, like runs/hippocampus/001.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
