"""`init`: a commented starter for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import ConfigurationError, ExitCode
from workflows.console import next_steps

__all__ = ["init"]

TEMPLATES = Path(__file__).parents[1] / "templates"


def init(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task, like medical/segmentation.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
) -> int:
    """Make a folder with a commented workflow for one's own data."""
    from pipelines.runs import write_atomically
    from pipelines.task import find_task

    entry = find_task(task)
    templates = sorted((TEMPLATES / entry.name.replace("/", "-")).glob("*"))
    if not templates:
        known = ", ".join(sorted(path.name.replace("-", "/", 1) for path in TEMPLATES.iterdir() if path.is_dir()))
        raise ConfigurationError(f"there is no starter for {task!r}; use one of: {known}")
    taken = [folder / path.name for path in templates if (folder / path.name).exists()]
    if taken:
        raise ConfigurationError(f"{taken[0]} exists and is left as it is", hint="Name another folder.")
    for path in templates:
        write_atomically(folder / path.name, path.read_text(encoding="utf-8"))
    workflow = folder / next(path.name for path in templates if path.suffix == ".yaml")
    next_steps(
        {path.name: folder / path.name for path in templates},
        [f"edit {workflow}", f"pulvinar validate {workflow}", f"pulvinar plan {workflow}", f"pulvinar run {workflow}"],
    )
    return ExitCode.OK
