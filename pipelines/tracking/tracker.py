"""The tracker of one run: what a training process calls. Nothing here waits for a server, and nothing here raises.

    tracker = open_tracker(config.track, run, name=config.name, output=Path("runs"))
    tracker.log_parameters(config.model_dump(mode="json"))
    tracker.log_metrics({"train/loss": 0.3}, step=10)
    tracker.finish("finished")

Every call appends a line to the run's journal; a process beside (`pipelines.tracking.sender`) delivers it to MLflow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pipelines.errors import Interrupted, PulvinarError
from pipelines.modelfolder import read_model_record
from pipelines.runs import RunFolder
from pipelines.task import find_task
from pipelines.tracking.delivery import read_state
from pipelines.tracking.flatten import flatten, valid_key
from pipelines.tracking.journal import JOURNAL, Journal, read_events
from pipelines.tracking.privacy import Scrubber
from pipelines.tracking.settings import TrackingSettings, mask_password
from pipelines.tracking.stores import mlflow_environment, store_for
from pipelines.tracking.syncing import waiting_events
from pipelines.tracking.system_metrics import SystemSampler
from pipelines.tracking.target import Target

__all__ = ["RunState", "Tracker", "disabled_tracker", "open_tracker"]

RunState = Literal["finished", "failed", "interrupted"]

_MLFLOW_STATES: dict[RunState, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

_PATIENCE_SECONDS = 120.0
"""How long the end of a run waits for deliveries that make no progress; a sender that fails ends long before."""

_log = logging.getLogger("pulvinar.tracking")


def open_tracker(
    settings: TrackingSettings,
    run: RunFolder,
    *,
    name: str,
    output: Path,
    resume: bool = False,
    parent: RunFolder | None = None,
) -> Tracker:
    """Opens the tracking of a run, or continues that of a resumed one. Never raises: without tracking, a run goes on.

    Args:
        settings: The workflow's `track` section.
        run: The run folder.
        name: Name of the workflow: the experiment's name, unless the settings say another.
        output: The folder of run folders; the default store lies in it.
        resume: Continue the MLflow run of this run folder.
        parent: The run that this one is a part of (a fold of several). Its tracker delivers both: see `log_child`.
    """
    if not settings.enabled:
        return disabled_tracker()
    try:
        journal_path = run.tracking / JOURNAL
        seen: set[tuple[str, int, float]] = set()
        store = store_for(settings, output)
        if resume and journal_path.is_file() and (run.tracking / "target.json").is_file():
            seen = _logged_metrics(journal_path)
        else:
            _set_aside(run)
            Target.create(
                run,
                store,
                experiment=settings.experiment or name,
                name=_run_name(run, name),
                created=_now(),
                parent=parent,
            )
        journal = Journal(journal_path)
        tracker = Tracker(run, journal, Scrubber(run.root, output), seen=seen, delivered_by_parent=parent is not None)
        tracker.record({"event": "state", "state": "RUNNING", "time": _now()})
        tracker.set_tags({f"{key}": value for key, value in settings.tags.items()})
        if parent is None:
            tracker.start_sender(store.uri)
        if settings.system_metrics and parent is None:
            tracker.start_sampler(settings.system_metrics_interval)
    except Exception as error:  # noqa: BLE001 - tracking never stops a run; the folder still holds everything
        _log.warning("this run is not tracked: %s: %s", type(error).__name__, error)
        return disabled_tracker()
    return tracker


def disabled_tracker() -> Tracker:
    """A tracker that does nothing: for `track.enabled: false`, and for all but the first of several processes."""
    return Tracker(None, None, Scrubber())


class Tracker:
    """Tracks one run. As a context it ends the run as finished, interrupted or failed.

    Args:
        run: The run folder; None for a tracker that does nothing.
        journal: Its journal.
        scrubber: Takes folders out of everything that is logged.
        seen: Metrics a resumed run has logged before: repeating them after a restart changes nothing.
        delivered_by_parent: Whether another run's tracker delivers the journal.
    """

    def __init__(
        self,
        run: RunFolder | None,
        journal: Journal | None,
        scrubber: Scrubber,
        *,
        seen: set[tuple[str, int, float]] | None = None,
        delivered_by_parent: bool = False,
    ) -> None:
        self._run = run
        self._journal = journal
        self._scrubber = scrubber
        self._seen = seen or set()
        self._delivered_by_parent = delivered_by_parent
        self._keys: dict[str, str] = {}
        self._sender: subprocess.Popen[bytes] | None = None
        self._sampler: SystemSampler | None = None
        self._lost = 0

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish("finished")
        else:
            self.finish("interrupted" if issubclass(kind, (Interrupted, KeyboardInterrupt)) else "failed")

    @property
    def enabled(self) -> bool:
        """Whether anything is tracked."""
        return self._journal is not None

    @property
    def run_id(self) -> str | None:
        """The MLflow run, as soon as the store has answered."""
        return None if self._run is None else read_state(self._run).get("run_id")

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of one step: `{"train/loss": 0.3, "validation/dice": 0.8}`. Costs some ten microseconds."""
        if self._journal is None:
            return
        fresh = {}
        for key, value in values.items():
            name = self._keys.get(key) or self._keys.setdefault(key, valid_key(key))
            number = float(value)
            if not self._seen or (name, step, number) not in self._seen:
                fresh[name] = number
        if fresh:
            self.record({"event": "metrics", "time": _now(), "step": int(step), "values": fresh})

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Logs nested plain values (a resolved configuration) as parameters with dotted keys."""
        self.record({"event": "parameters", "values": flatten(self._scrubber.value(values))})

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Sets tags; a later value replaces an earlier one."""
        tags = {valid_key(key): self._scrubber.text(str(value))[:5000] for key, value in values.items()}
        if tags:
            self.record({"event": "tags", "values": tags})

    def log_data(self, name: str, digest: str, parts: Mapping[str, int]) -> None:
        """Logs the data set a run uses: its digest, and the number of cases in each part."""
        self.record({"event": "dataset", "name": self._scrubber.text(name), "digest": digest, "parts": dict(parts)})

    def log_files(self, path: Path, to: str = "") -> None:
        """Logs a file or a folder of the run folder, under the folder `to` of the MLflow run."""
        self._record_path("files", path, to)

    def log_table(self, path: Path, to: str = "") -> None:
        """Logs a CSV of the run folder as a file and as a table that MLflow shows; groups become pseudonyms."""
        self._record_path("table", path, to)

    def log_child(self, run: RunFolder) -> None:
        """Delivers the journal of a finished run inside this one's folder, as a child of this run."""
        self._record_path("child", run.root, "")

    def log_model(self, folder: Path) -> None:
        """Logs a model folder as an MLflow model that reads the folder itself (no pickle)."""
        try:
            target = find_task(read_model_record(folder).task).target
        except PulvinarError as error:
            _log.warning("the model is not tracked: %s", error)
            return
        self._record_path("model", folder, "", target=target)

    def log_run_folder(self) -> None:
        """Logs what the run folder holds: configuration, environment, history, tables, figures, report and model."""
        if self._run is None:
            return
        run = self._run
        for file in (run.config, run.provenance, run.environment, run.history, run.report):
            if file.is_file():
                self.log_files(file)
        for table in sorted(run.evaluation.glob("*.csv")):
            self.log_table(table, "evaluation")
        if run.figures.is_dir():
            self.log_files(run.figures, "figures")
        if (run.model / "model.safetensors").is_file():
            self.log_model(run.model)

    def finish(self, state: RunState) -> bool:
        """Ends the run and waits a little for its delivery. Returns whether everything has been delivered."""
        if self._journal is None or self._run is None:
            return True
        if self._sampler is not None:
            self._sampler.stop()
        self.record({"event": "state", "state": _MLFLOW_STATES[state], "time": _now()}, durable=True)
        self._journal.close()
        self._journal = None
        if self._delivered_by_parent:
            return True
        self._wait_for_sender(self._run)
        return self._note_outcome(self._run)

    def record(self, event: Mapping[str, Any], *, durable: bool = False) -> None:
        """Appends one event to the journal; says once when that cannot be done, and goes on."""
        if self._journal is None:
            return
        try:
            self._journal.append(event, durable=durable)
        except (OSError, TypeError, ValueError) as error:
            if not self._lost:
                _log.warning("tracking loses events: the journal cannot be written: %s", error)
            self._lost += 1

    def start_sender(self, uri: str) -> None:
        """Starts the process that delivers the journal."""
        if self._run is None:
            return
        environment = os.environ | mlflow_environment()
        if mask_password(uri) != uri:
            environment["MLFLOW_TRACKING_URI"] = uri
        package_root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH", "")]))
        with (self._run.tracking / "sender.log").open("ab") as log:
            self._sender = subprocess.Popen(
                [sys.executable, "-m", "pipelines.tracking.sender", str(self._run.root.absolute())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def start_sampler(self, interval: float) -> None:
        """Starts sampling system metrics."""
        if self._run is not None:
            self._sampler = SystemSampler(self.log_metrics, folder=self._run.root, interval=interval)

    def _record_path(self, kind: str, path: Path, to: str, **more: str) -> None:
        if self._run is None:
            return
        try:
            inside = path.resolve().relative_to(self._run.root.resolve()).as_posix()
        except ValueError:
            _log.warning("not tracked: %s lies outside the run folder", path.name)
            return
        self.record({"event": kind, "path": inside, "to": to, **more})

    def _wait_for_sender(self, run: RunFolder) -> None:
        sender, self._sender = self._sender, None
        if sender is None or sender.stdin is None:
            return
        with contextlib.suppress(OSError):
            sender.stdin.close()
        offset, deadline = -1, time.monotonic() + _PATIENCE_SECONDS
        while sender.poll() is None:
            reached = read_state(run).get("offset", 0)
            if reached != offset:
                offset, deadline = reached, time.monotonic() + _PATIENCE_SECONDS
            if time.monotonic() > deadline:
                sender.kill()
                sender.wait()
                return
            time.sleep(0.05)

    def _note_outcome(self, run: RunFolder) -> bool:
        left, state = waiting_events(run), read_state(run)
        try:
            run.update_status(
                tracking={"run_id": state.get("run_id", ""), "store": Target.read(run).uri, "waiting": left}
            )
        except OSError as error:
            _log.warning("status.json cannot be written: %s", error)
        if left:
            _log.warning(
                "%d tracked events have not reached the store; `pulvinar track sync %s` delivers them", left, run.root
            )
        return not left


def _logged_metrics(journal: Path) -> set[tuple[str, int, float]]:
    return {
        (key, event["step"], value)
        for event, _ in read_events(journal)
        if event["event"] == "metrics"
        for key, value in event["values"].items()
    }


def _set_aside(run: RunFolder) -> None:
    """Keeps an earlier journal of the same folder: a run that starts anew is a new MLflow run."""
    files = [run.tracking / name for name in (JOURNAL, "target.json", "delivered.json", "refused.jsonl")]
    present = [file for file in files if file.is_file()]
    if not present:
        return
    aside = run.tracking / f"earlier-{uuid.uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    for file in present:
        file.rename(aside / file.name)


def _run_name(run: RunFolder, name: str) -> str:
    folder = run.root.resolve().name
    return f"{name}-{folder}" if folder.isdecimal() else folder


def _now() -> int:
    return int(time.time() * 1000)
