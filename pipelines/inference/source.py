"""Where a worker's predictor comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pipelines.errors import ModelFolderError
from pipelines.inference.machine import prepare_worker
from pipelines.modelfolder import change_description, load_model, read_model_record
from pipelines.task import FinishedItem, Predictor, TaskEntry, find_task, register_task, registered_tasks

__all__ = ["JoiningSource", "ModelSource", "OpenedPredictor", "PredictorSource", "TableSource", "digest_of"]


class OpenedPredictor(NamedTuple):
    """A predictor, the device it runs on, and how many devices of that kind there are."""

    predictor: Predictor[Any, Any]
    device: str
    devices: int


class PredictorSource(Protocol):
    """Gives each worker its predictor. It is sent to workers, so it holds plain values."""

    @property
    def model_digest(self) -> str:
        """Changes when the model does."""

    @property
    def settings_digest(self) -> str:
        """Changes when a setting does that changes results."""

    def open(self, *, index: int, workers: int) -> OpenedPredictor:
        """Loads the model in worker `index` of `workers`. Raises `PulvinarError`."""


@runtime_checkable
class TableSource(Protocol):
    """A source that says what tables are to it."""

    @property
    def reads_tables(self) -> bool:
        """Whether its items are rows of tables, so that a table is no manifest."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it is told of an item by a manifest."""


@runtime_checkable
class JoiningSource(Protocol):
    """A source whose results may also belong into one table."""

    @property
    def joins(self) -> bool:
        """Whether they do."""

    def join(self, results: Sequence[FinishedItem], folder: Path) -> None:
        """Writes tables of all results into `folder`, or nothing. Called in the process that leads the batch."""


def digest_of(value: Any) -> str:
    """sha256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class ModelSource:
    """A model folder.

    Attributes:
        folder: The model folder.
        model_digest: Digest of the model as the batch found it.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        changes: Dotted keys of the description → other values.
        tasks: The tasks that the main process knows, so that a worker knows them too.
        task: Name of the model's task.
    """

    folder: Path
    model_digest: str
    device: str = "auto"
    changes: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[TaskEntry, ...] = ()
    task: str = ""

    @classmethod
    def of(cls, model: Path, *, device: str, changes: Mapping[str, Any]) -> ModelSource:
        """The source for a model folder or run folder. Raises `ModelFolderError` and `ConfigurationError`."""
        record = read_model_record(model)
        change_description(record.description, changes)
        return cls(record.folder.resolve(), record.digest, device, dict(changes), registered_tasks(), record.task)

    @property
    def settings_digest(self) -> str:
        """Digest of `changes`."""
        return digest_of({"changes": self.changes})

    def open(self, *, index: int, workers: int) -> OpenedPredictor:
        """Loads the model; the worker's index chooses among several GPUs, the CPU's threads are divided.

        Raises:
            EnvironmentProblem: The device is not there.
            ModelFolderError: The model is damaged, or is not the one that the batch began with.
        """
        device, devices = prepare_worker(self.device, index=index, workers=workers)
        import torch

        for entry in self.tasks:
            register_task(entry)
        loaded = load_model(self.folder, device=device, changes=self.changes)
        if loaded.record.digest != self.model_digest:
            raise ModelFolderError(
                f"{self.folder.name} was replaced while it was in use", hint="Start the same command again."
            )
        return OpenedPredictor(loaded.task.predictor(loaded.network, device=torch.device(device)), device, devices)

    @property
    def reads_tables(self) -> bool:
        """Whether the task's items are rows of tables."""
        return bool(self.task and find_task(self.task).tables)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a manifest may tell the task of an item."""
        return find_task(self.task).columns if self.task else ()

    @property
    def joins(self) -> bool:
        """Whether the task puts together what single results hold."""
        return bool(self.task and find_task(self.task).join)

    def join(self, results: Sequence[FinishedItem], folder: Path) -> None:
        """Writes what the task puts together from single results."""
        joiner = find_task(self.task).load_joiner()
        if joiner is not None:
            joiner(results, folder, self.model_digest)
