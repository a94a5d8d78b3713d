"""Batch inference: from inputs and a model folder to whole results and a ledger of what became of every item.

from pipelines.inference import BatchSettings, predict_batch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.inference.batch import predict_batch
    from pipelines.inference.events import BatchSummary, Event, FailedItem
    from pipelines.inference.settings import BatchSettings

__all__ = ["BatchSettings", "BatchSummary", "Event", "FailedItem", "predict_batch"]

_HOME = {
    "BatchSettings": "settings",
    "BatchSummary": "events",
    "Event": "events",
    "FailedItem": "events",
    "predict_batch": "batch",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: a worker needs none of it, and starts faster without."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
