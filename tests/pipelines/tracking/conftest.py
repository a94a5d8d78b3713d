"""Real SQLite stores, made once and copied; and runs that track into them without a process beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.runs import RunFolder
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.tracker import Tracker, open_tracker


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow's own use of SQLAlchemy is not ours to judge."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:.*loader strategy is deprecated"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing in them."""
    from pipelines.tracking.stores import open_client

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def output(tmp_path: Path, empty_store: Path) -> Path:
    """A folder for runs whose default store exists."""
    folder = tmp_path / "Läufe des Tages"
    (folder / "tracking").mkdir(parents=True)
    shutil.copy(empty_store, folder / "tracking" / "mlflow.db")
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process beside the run: the test delivers itself."""
    monkeypatch.setattr(Tracker, "start_sender", lambda self, uri: None)


@pytest.fixture
def start(output: Path, offline: None) -> Callable[..., tuple[RunFolder, Tracker]]:
    """Opens a tracker whose journal the test delivers with `sync`."""

    def open_run(name: str = "run-1", **arguments: object) -> tuple[RunFolder, Tracker]:
        run = RunFolder(output / name)
        run.root.mkdir(exist_ok=True)
        settings = arguments.pop("settings", TrackingSettings(system_metrics=False))
        assert isinstance(settings, TrackingSettings)
        return run, open_tracker(settings, run, name="knee", output=output, **arguments)  # type: ignore[arg-type]

    return open_run
