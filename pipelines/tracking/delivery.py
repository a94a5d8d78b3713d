"""From the journal to the tracking store: in order, in batches, each event once, whatever dies in between.

How far delivery has come is written after each batch. A crash between a batch and that note repeats the batch, which
changes nothing: MLflow keeps a metric by key, step, time and value, parameters and tags by key, files by name, and the
run itself is found again by a tag that only this run folder has.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.runs import RunFolder, write_atomically
from pipelines.tracking.journal import JOURNAL, Journal, read_events
from pipelines.tracking.privacy import Scrubber
from pipelines.tracking.settings import mask_password
from pipelines.tracking.stores import open_client
from pipelines.tracking.target import Target
from pipelines.tracking.uploads import Uploads

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Delivery", "DeliveryState", "read_state"]

_METRICS_PER_BATCH = 1000
_NAMES_PER_BATCH = 100
_MISSING_CODES = {"RESOURCE_DOES_NOT_EXIST"}
_REFUSAL_CODES = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow's page open with runs and metrics; without it, it opens with tables for language models."""

Event = dict[str, Any]
DeliveryState = dict[str, Any]


def read_state(run: RunFolder) -> DeliveryState:
    """How far delivery has come: `offset`, `run_id`, `experiment_id`, `refused`; empty before the first delivery."""
    try:
        state: DeliveryState = json.loads((run.tracking / "delivered.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return state


class Delivery:
    """Delivers the journal of one run. One process at a time may hold one (see `pipelines.tracking.syncing`).

    Args:
        run: The run folder.
        uri: Another store than the one the run was opened with.
    """

    def __init__(self, run: RunFolder, *, uri: str | None = None) -> None:
        self._run = run
        self._target = Target.read(run)
        self._given_uri = uri
        self._uri = uri or self._target.store_uri(run)
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._store = self._target.uri if uri is None else mask_password(uri)
        self._state = read_state(run)
        if self._state.get("store") != self._store:
            self._state = {}
        self._scrubber = Scrubber(run.root, run.root.parent)

    @property
    def waiting(self) -> int:
        """How many events have not been delivered."""
        return sum(1 for _ in read_events(self._run.tracking / JOURNAL, self._state.get("offset", 0)))

    def deliver(self, *, on_batch: Callable[[], None] = lambda: None) -> int:
        """Delivers all whole events that are in the journal, and returns how many.

        Raises:
            Exception: Whatever MLflow raises while the store cannot be reached; what was delivered is noted.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's and SQLAlchemy's own, of no use to whoever runs this
            return self._deliver(on_batch)

    def _deliver(self, on_batch: Callable[[], None]) -> int:
        if not self._run_id:
            # Asked again after a store that did not answer: no event may go out before its run is known.
            self._client = self._client or open_client(self._uri)
            self._run_id = self._find_run()
        journal = self._run.tracking / JOURNAL
        delivered = 0
        for batch, offset in _batches(read_events(journal, self._state.get("offset", 0))):
            self._deliver_batch(batch)
            self._note(offset=offset)
            delivered += len(batch)
            on_batch()
        return delivered

    def _find_run(self) -> str:
        """The MLflow run: the noted one, one that an earlier attempt created without noting it, or a new one."""
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        if run_id := self._state.get("run_id"):
            try:
                if self._client.get_run(run_id).info.lifecycle_stage == "active":
                    return str(run_id)
            except MlflowException as error:
                if error.error_code not in _MISSING_CODES:
                    raise
            self._state = {}
        experiment_id = self._find_experiment()
        own = f"tags.`pulvinar.run` = '{self._target.uid}'"
        found = self._client.search_runs([experiment_id], filter_string=own, max_results=1)
        run = found[0] if found else self._create_run(experiment_id)
        self._note(run_id=run.info.run_id, experiment_id=experiment_id, offset=0)
        return str(run.info.run_id)

    def _create_run(self, experiment_id: str) -> Any:
        assert self._client is not None
        tags = {
            "pulvinar.run": self._target.uid,
            "mlflow.source.name": "pulvinar run",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": "pulvinar",
        }
        if self._target.parent:
            parent = RunFolder((self._run.root / self._target.parent).resolve())
            parent_id = read_state(parent).get("run_id")
            if not parent_id:
                raise RuntimeError(f"the parent run {parent.root.name} has not been delivered yet; deliver it first")
            tags["mlflow.parentRunId"] = parent_id
        return self._client.create_run(
            experiment_id, start_time=self._target.created, tags=tags, run_name=self._target.name
        )

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        name = self._target.experiment
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            folder = self._target.artifact_folder(self._run)
            location = None if folder is None else (folder / self._target.experiment_folder).as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self._client.get_experiment_by_name(name)
            assert experiment is not None
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _deliver_batch(self, batch: Sequence[Event]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._send(batch)
        except MlflowException as error:
            if error.error_code not in _REFUSAL_CODES:
                raise
            if len(batch) > 1:
                for event in batch:
                    self._deliver_batch([event])
            else:
                self._refuse(batch[0], str(error))
        except (FileNotFoundError, NotADirectoryError) as error:
            self._refuse(batch[0], f"the file is no longer there: {Path(str(error.filename)).name}")

    def _send(self, batch: Sequence[Event]) -> None:
        client, run_id = self._client, self._run_id
        assert client is not None
        kind = batch[0]["event"]
        if kind == "metrics":
            self._send_metrics(batch)
        elif kind == "parameters":
            self._send_parameters(batch[0]["values"])
        elif kind == "tags":
            self._send_tags(batch[0]["values"])
        elif kind == "state":
            state, time = batch[0]["state"], batch[0]["time"]
            if state == "RUNNING":
                client.update_run(run_id, status=state)
            else:
                client.set_terminated(run_id, status=state, end_time=time)
        elif kind == "child":
            self._send_child(batch[0]["path"])
        else:
            Uploads(client, run_id, self._state["experiment_id"], self._run, self._scrubber).send(batch[0])

    def _send_child(self, path: str) -> None:
        from filelock import FileLock

        child = RunFolder(self._run.root / path)
        if not (child.tracking / JOURNAL).is_file():
            raise FileNotFoundError(2, "no journal", str(child.tracking / JOURNAL))
        with FileLock(child.tracking / "delivery.lock"):
            Delivery(child, uri=self._given_uri).deliver()

    def _send_metrics(self, batch: Sequence[Event]) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        metrics = [
            Metric(key, float(value), event["time"], event["step"])
            for event in batch
            for key, value in event["values"].items()
        ]
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])

    def _send_parameters(self, values: dict[str, str]) -> None:
        """New parameters; one that a resumed run changed stays as it was, and the new value becomes a tag."""
        from mlflow.entities import Param

        assert self._client is not None
        known = self._client.get_run(self._run_id).data.params
        fresh = [Param(key, value) for key, value in values.items() if key not in known]
        for start in range(0, len(fresh), _NAMES_PER_BATCH):
            self._client.log_batch(self._run_id, params=fresh[start : start + _NAMES_PER_BATCH])
        changed = {key: value for key, value in values.items() if known.get(key, value) != value}
        self._send_tags({f"resumed.{key}"[:250]: value[:5000] for key, value in changed.items()})

    def _send_tags(self, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        assert self._client is not None
        tags = [RunTag(key, value) for key, value in values.items()]
        for start in range(0, len(tags), _NAMES_PER_BATCH):
            self._client.log_batch(self._run_id, tags=tags[start : start + _NAMES_PER_BATCH])

    def _refuse(self, event: Event, reason: str) -> None:
        journal = Journal(self._run.tracking / "refused.jsonl")
        journal.append({"event": "refused", "reason": self._scrubber.text(reason)[:500], "refused": event})
        journal.close()
        self._note(refused=self._state.get("refused", 0) + 1)

    def _note(self, **changes: Any) -> None:
        self._state = {**self._state, **changes, "store": self._store}
        write_atomically(self._run.tracking / "delivered.json", json.dumps(self._state, indent=2) + "\n")


def _batches(events: Iterable[tuple[Event, int]]) -> Iterable[tuple[list[Event], int]]:
    """Neighbouring metric events together, up to a thousand metrics; anything else by itself."""
    pending: list[Event] = []
    size = behind = 0
    for event, offset in itertools.chain(events, [({"event": "end"}, -1)]):
        count = len(event["values"]) if event["event"] == "metrics" else _METRICS_PER_BATCH
        if pending and (event["event"] != "metrics" or size + count > _METRICS_PER_BATCH):
            yield pending, behind
            pending, size = [], 0
        if event["event"] == "metrics":
            pending.append(event)
            size += count
        elif offset >= 0:
            yield [event], offset
        behind = offset
