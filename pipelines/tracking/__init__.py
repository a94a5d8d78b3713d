"""Tracking with MLflow: what a run logs, where it goes, and how it gets there when a server is away.

from pipelines.tracking import open_tracker, sync
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.tracking.settings import TrackingSettings
    from pipelines.tracking.syncing import SyncReport, sync, waiting_events
    from pipelines.tracking.tracker import RunState, Tracker, disabled_tracker, open_tracker

__all__ = [
    "RunState",
    "SyncReport",
    "Tracker",
    "TrackingSettings",
    "disabled_tracker",
    "open_tracker",
    "sync",
    "waiting_events",
]

_HOMES = {
    "TrackingSettings": "settings",
    "SyncReport": "syncing",
    "sync": "syncing",
    "waiting_events": "syncing",
    "RunState": "tracker",
    "Tracker": "tracker",
    "disabled_tracker": "tracker",
    "open_tracker": "tracker",
}


def __getattr__(name: str) -> Any:
    """Imports a name when it is asked for: the settings are read on every command, the rest is not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
