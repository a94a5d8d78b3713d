"""The `track` section accepts stores that MLflow has, and says what to write for those it no longer has."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.stores import store_for


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///mlflow.db",
        "sqlite:////srv/lab/mlflow.db",
        "http://localhost:5000",
        "https://mlflow.lab.example/path",
        "postgresql+psycopg2://host/mlflow",
        "databricks://lab",
    ],
)
def test_a_store_that_mlflow_has_is_accepted(uri: str) -> None:
    assert TrackingSettings(uri=uri).uri == uri


@pytest.mark.parametrize(
    ("uri", "advice"),
    [
        pytest.param("mlruns", "sqlite:///mlruns/mlflow.db", id="bare folder"),
        pytest.param("./mlruns/", "sqlite:///./mlruns/mlflow.db", id="relative folder"),
        pytest.param("file:///srv/mlruns", "sqlite:////srv/mlruns/mlflow.db", id="file store"),
        pytest.param("file:mlruns", "sqlite:///mlruns/mlflow.db", id="short file store"),
        pytest.param("C:\\mlruns", "sqlite:///", id="Windows folder"),
        pytest.param("", "sqlite:///tracking/mlflow.db", id="empty"),
        pytest.param("sqlite://", "sqlite:///folder/mlflow.db", id="no file"),
        pytest.param("s3://bucket/runs", "starts with one of", id="bucket"),
        pytest.param("http://", "host:port", id="no host"),
        pytest.param("http://ann:secret@host", "MLFLOW_TRACKING_PASSWORD", id="password"),
    ],
)
def test_any_other_is_refused_with_what_to_write(uri: str, advice: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrackingSettings(uri=uri)
    message = caught.value.errors()[0]["msg"]
    assert advice in message
    assert "secret" not in message


def test_a_database_password_never_reaches_a_file() -> None:
    settings = TrackingSettings(uri="postgresql://ann:secret@host/db")
    assert "secret" not in settings.model_dump_json()
    assert settings.uri is not None
    assert "secret" in settings.uri


def test_the_default_store_lies_in_the_output_folder(tmp_path: Path) -> None:
    store = store_for(TrackingSettings(), tmp_path / "runs")
    assert store.uri == f"sqlite:///{tmp_path}/runs/tracking/mlflow.db"
    assert store.artifacts == tmp_path / "runs" / "tracking" / "artifacts"


def test_a_relative_database_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_for(TrackingSettings(uri="sqlite:///lab/a.db"), Path("runs")).uri == f"sqlite:///{tmp_path}/lab/a.db"
