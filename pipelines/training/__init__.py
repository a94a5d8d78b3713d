"""Training: one loop for every domain, that can be stopped at any moment and goes on where it was.

    settings → sampling → engine (one optimizer step) → loop (epochs, validation, checkpoints) → TrainingResult

`train` and the modules behind it import torch, so they are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.training.loop import train
    from pipelines.training.machine import choose_device, choose_precision
    from pipelines.training.result import TrainingResult

__all__ = ["TrainingResult", "choose_device", "choose_precision", "train"]

_HOMES = {
    "TrainingResult": "pipelines.training.result",
    "choose_device": "pipelines.training.machine",
    "choose_precision": "pipelines.training.machine",
    "train": "pipelines.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
