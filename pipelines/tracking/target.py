"""Where the journal of one run is to be delivered: `tracking/target.json` in the run folder."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.errors import EnvironmentProblem
from pipelines.runs import RunFolder, write_atomically
from pipelines.tracking.settings import mask_password
from pipelines.tracking.stores import Store, sqlite_file

__all__ = ["Target"]

_RELATIVE = "sqlite-beside-run:"
"""Stands before the path of a database that is told relative to the run folder: output folders can be moved."""


@dataclass(frozen=True)
class Target:
    """Where one run is delivered to.

    Attributes:
        uri: The store, without a password; a SQLite file is told relative to the run folder.
        experiment: Name of the MLflow experiment.
        name: Name of the MLflow run.
        uid: A random name that only this run folder has: finds the MLflow run again.
        created: Start of the run, milliseconds since 1970.
        artifacts: Folder for files, relative to the run folder; empty where a server decides.
        parent: Folder of the parent run, relative to the run folder; empty without one.
    """

    uri: str
    experiment: str
    name: str
    uid: str
    created: int
    artifacts: str = ""
    parent: str = ""

    @classmethod
    def create(
        cls, run: RunFolder, store: Store, *, experiment: str, name: str, created: int, parent: RunFolder | None
    ) -> Target:
        """A new target, written to the run folder."""
        file = sqlite_file(store.uri)
        target = cls(
            uri=mask_password(store.uri) if file is None else _RELATIVE + _relative(file, run),
            experiment=experiment,
            name=name,
            uid=uuid.uuid4().hex,
            created=created,
            artifacts="" if store.artifacts is None else _relative(store.artifacts, run),
            parent="" if parent is None else _relative(parent.root, run),
        )
        write_atomically(run.tracking / "target.json", json.dumps(asdict(target), indent=2) + "\n")
        return target

    @classmethod
    def read(cls, run: RunFolder) -> Target:
        """The target of a run. Raises `EnvironmentProblem` when the run was never tracked."""
        try:
            return cls(**json.loads((run.tracking / "target.json").read_text()))
        except FileNotFoundError:
            raise EnvironmentProblem(
                f"{run.root} was not tracked: it holds no tracking/target.json",
                hint="Name a run folder whose workflow has `track.enabled: true`.",
            ) from None
        except (ValueError, TypeError) as error:
            raise EnvironmentProblem(f"tracking/target.json of {run.root} cannot be read: {error}") from error

    def store_uri(self, run: RunFolder) -> str:
        """The store as MLflow wants it."""
        if self.uri.startswith(_RELATIVE):
            return f"sqlite:///{_absolute(self.uri.removeprefix(_RELATIVE), run)}"
        given = os.environ.get("MLFLOW_TRACKING_URI", "")
        return given if mask_password(given) == self.uri else self.uri

    def artifact_folder(self, run: RunFolder) -> Path | None:
        """Where files of runs go; None where a server decides."""
        return Path(_absolute(self.artifacts, run)) if self.artifacts else None

    @property
    def experiment_folder(self) -> str:
        """The experiment's name as the name of a folder."""
        return re.sub(r"[^\w.-]+", "-", self.experiment).strip(".") or "experiment"


def _relative(path: Path, run: RunFolder) -> str:
    return Path(os.path.relpath(path.absolute(), run.root.absolute())).as_posix()


def _absolute(path: str, run: RunFolder) -> str:
    return os.path.normpath(run.root.absolute() / path)
