"""Arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.errors import ConfigurationError

__all__ = [
    "JsonOption",
    "ModelChanges",
    "Overrides",
    "RunArgument",
    "WorkflowArgument",
    "known_device",
    "settings_of",
]

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
ModelChanges = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of the model, like infer.mirror=false."),
]


def known_device(device: str) -> str:
    """The device, where it is one. Raises `ConfigurationError`."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigurationError(f"there is no device {device!r}; use auto, cpu, cuda or cuda:N")
    return device


def settings_of(settings: Sequence[str]) -> dict[str, Any]:
    """`infer.mirror=false` → `{"infer.mirror": False}`."""
    import yaml

    changes = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not key or not equals:
            raise ConfigurationError(f"{setting!r} is no setting; write KEY=VALUE, for example infer.mirror=false")
        try:
            changes[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigurationError(f"{key}: {text!r} is no value; put quotation marks around text") from None
    return changes
