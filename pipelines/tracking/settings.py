"""Where a run is tracked: the settings of a workflow's `track` section."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, StringConstraints, field_serializer, field_validator

from pipelines.config.section import Section

__all__ = ["DATABASES", "SERVERS", "TrackingSettings", "mask_password"]

SERVERS = ("http", "https", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9]*)(\+[A-Za-z0-9_]+)?:")
_MASK = "***"

TagName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_ ./-]{0,199}$")]
TagValue = Annotated[str, StringConstraints(max_length=5000)]


class TrackingSettings(Section):
    """Where and how a run is tracked with MLflow."""

    enabled: bool = True
    """False: no tracking at all; everything is still in the run folder."""
    uri: str | None = None
    """Tracking store: `http(s)://…` for a server, `sqlite:///…`, `postgresql://…`, `mysql://…` for a database.
    Unset: `tracking/mlflow.db` in the output folder, with its artifacts beside it."""
    experiment: Annotated[str, StringConstraints(min_length=1, max_length=250)] | None = None
    """Name of the MLflow experiment. Unset: the name of the workflow."""
    tags: dict[TagName, TagValue] = Field(default_factory=dict)
    """Tags for the run. Never put a patient's name or identifier here."""
    system_metrics: bool = True
    """Whether processor, memory, disk and GPU use are sampled."""
    system_metrics_interval: float = Field(default=10.0, ge=1.0, le=3600.0)
    """Seconds between two samples of system metrics."""

    @field_validator("uri")
    @classmethod
    def _known_store(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        uri = uri.strip()
        match = _SCHEME.match(uri)
        scheme = match.group(1).lower() if match else ""
        if scheme == "file" or not scheme or len(scheme) == 1:  # one letter: a Windows drive
            folder = uri.removeprefix("file://").removeprefix("file:").rstrip("/") or "tracking"
            raise ValueError(
                f"{uri!r} is a folder, and MLflow no longer keeps runs in plain files; "
                f"write sqlite:///{folder}/mlflow.db, or leave it out for the store in the output folder"
            )
        if scheme not in (*SERVERS, *DATABASES):
            known = ", ".join(f"{name}://" for name in (*SERVERS, *DATABASES))
            raise ValueError(f"{mask_password(uri)!r} is not a tracking store; it starts with one of {known}")
        if scheme == "sqlite" and not re.match(r"^sqlite(\+\w+)?:///.*[^/]$", uri):
            raise ValueError(
                f"{uri!r} names no file; write sqlite:///folder/mlflow.db, or sqlite:////full/path/mlflow.db"
            )
        if scheme in ("http", "https"):
            parts = urlsplit(uri)
            if not parts.hostname:
                raise ValueError(f"{mask_password(uri)!r} names no server; write {scheme}://host:port")
            if parts.username or parts.password:
                raise ValueError(
                    f"{mask_password(uri)!r} holds a user name or password; "
                    "leave them out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
                )
        return uri

    @field_serializer("uri")
    def _without_password(self, uri: str | None) -> str | None:
        """A database's password never reaches a file."""
        return None if uri is None else mask_password(uri)


def mask_password(uri: str) -> str:
    """`postgresql://user:secret@host/db` → `postgresql://user:***@host/db`; anything else as it is."""
    try:
        parts = urlsplit(uri)
        if parts.password is None:
            return uri
    except ValueError:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{_MASK}@{host}"))
