"""Tracking stores: which one a run is tracked in, how it is created once, and how MLflow is kept quiet."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.tracking.settings import TrackingSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Store", "ensure_store", "mlflow_environment", "open_client", "sqlite_file", "store_for"]

_SQLITE = re.compile(r"^sqlite(?:\+\w+)?:///(?P<path>[^?]+)")
_CREATION_SECONDS = 300

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


@dataclass(frozen=True)
class Store:
    """A tracking store.

    Attributes:
        uri: What MLflow calls the tracking URI; files in it are absolute.
        artifacts: Folder for files of runs; None where a server decides.
    """

    uri: str
    artifacts: Path | None = None


def store_for(settings: TrackingSettings, output: Path) -> Store:
    """The store that the settings name; without one, `tracking/mlflow.db` in the output folder."""
    folder = output.absolute() / "tracking"
    if settings.uri is None:
        return Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    if (file := sqlite_file(settings.uri)) is not None:
        return Store(settings.uri.replace(_sqlite_path(settings.uri), str(file), 1), file.parent / "artifacts")
    if settings.uri.startswith(("http:", "https:", "databricks")):
        return Store(settings.uri)
    return Store(settings.uri, folder / "artifacts")


def sqlite_file(uri: str) -> Path | None:
    """The absolute database file of a `sqlite:///` URI, None for any other store."""
    path = _sqlite_path(uri)
    return Path(path).absolute() if path else None


def mlflow_environment() -> dict[str, str]:
    """Variables for any process that imports MLflow: no telemetry, and short waits for a dead server.

    What the user has set already stays as it is.
    """
    return {name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()}


def ensure_store(uri: str) -> None:
    """Creates the tables of a SQLite store when it is new; several processes may call this at once."""
    file = sqlite_file(uri)
    if file is None:
        return
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=_CREATION_SECONDS):
        _sql_store(uri)


def open_client(uri: str) -> MlflowClient:
    """A client of a store, created when it is new. Takes seconds: MLflow is imported."""
    os.environ.update(mlflow_environment())
    _quieten()
    ensure_store(uri)
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def _sqlite_path(uri: str) -> str:
    match = _SQLITE.match(uri)
    return match["path"] if match else ""


def _sql_store(uri: str) -> Any:
    from mlflow.tracking._tracking_service.utils import _get_store

    return _get_store(uri)  # type: ignore[no-untyped-call]


def _quieten() -> None:
    import logging

    for name in ("mlflow", "alembic", "mlflow.store.db.utils", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)
