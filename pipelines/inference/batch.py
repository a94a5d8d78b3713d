"""Batch inference: every item ends with a whole result or a named reason, and a second call does only what is left.

    pulvinar predict MODEL INPUT… --out OUT

What is guaranteed, and how, is written in docs/reference/batch-inference.md.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pipelines.errors import ConfigurationError, DataError, EnvironmentProblem, Interrupted, PulvinarError
from pipelines.experiment.environment import pulvinar_version
from pipelines.inference.decisions import Decider, Decision, Feeder
from pipelines.inference.events import OUTCOMES, BatchSummary, Event, FailedItem
from pipelines.inference.executors import open_executor
from pipelines.inference.fingerprint import FileDigests
from pipelines.inference.items import FoundItem, name_items
from pipelines.inference.joining import check_joined, join_results
from pipelines.inference.ledger import Digests, Ledger, Record, now
from pipelines.inference.manifest import expand_inputs
from pipelines.inference.messages import Job
from pipelines.inference.outfolder import OutFolder
from pipelines.inference.scheduler import Ended, Retried, Scheduler, Started, Update
from pipelines.inference.settings import BatchSettings
from pipelines.inference.source import ModelSource, PredictorSource, TableSource
from pipelines.task import Item

__all__ = ["predict_batch", "run_batch"]

Report = Callable[[Event], None]


def predict_batch(
    model: Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    settings: BatchSettings | None = None,
    *,
    report: Report = lambda event: None,
) -> BatchSummary:
    """Predicts every item in `inputs` that has no result of this model yet.

    Args:
        model: Model folder, or run folder.
        inputs: Files, folders, globs and manifests.
        out: Where the results and the ledger go.
        settings: How the work is done.
        report: Told of everything that happens.

    Raises:
        ModelFolderError: The model cannot be used.
        ConfigurationError: The arguments contradict one another.
        DataError: Nothing that can be predicted was found.
        EnvironmentProblem: The output folder, the disk or the device does not allow it; what is done is kept.
        Interrupted: SIGINT or SIGTERM; the next call goes on.
    """
    settings = settings or BatchSettings()
    source = ModelSource.of(Path(model), device=settings.device, changes=settings.changes)
    return run_batch(source, [Path(path) for path in inputs], Path(out), settings, report=report)


def run_batch(
    source: PredictorSource,
    inputs: Sequence[Path],
    out: Path,
    settings: BatchSettings,
    *,
    report: Report = lambda event: None,
) -> BatchSummary:
    """The same with a predictor from anywhere."""
    _check_places(inputs, out)
    folder = OutFolder(out)
    check_joined(source, folder)
    with _signals() as signals, folder.locked():
        ledger, note = Ledger.open(folder.ledger)
        try:
            batch = _Batch(source, folder, ledger, settings, report, signals)
            if note:
                batch.note(note)
            return batch.run(inputs)
        finally:
            ledger.close()


class _Batch:
    """One call: what is decided, done, recorded and reported."""

    def __init__(
        self,
        source: PredictorSource,
        folder: OutFolder,
        ledger: Ledger,
        settings: BatchSettings,
        report: Report,
        signals: list[signal.Signals],
    ) -> None:
        self._source = source
        self._folder = folder
        self._ledger = ledger
        self._settings = settings
        self._report = report
        self._signals = signals
        self._digests = FileDigests(ledger.file_states())
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._failed: list[FailedItem] = []
        self._stopped = ""
        self._notes: list[str] = []
        self._total = 0
        self._found: dict[str, FoundItem] = {}
        self._started: dict[str, str] = {}

    def note(self, text: str) -> None:
        """Tells something that happened to no item."""
        self._notes.append(text)
        self._report(Event("note", reason=text))

    def run(self, inputs: Sequence[Path]) -> BatchSummary:
        """Works until everything has ended, or the work has to stop."""
        self._ledger.begin(
            model_digest=self._source.model_digest,
            settings_digest=self._source.settings_digest,
            version=pulvinar_version(),
        )
        how = "error"
        try:
            executor = open_executor(self._settings, self._source)
            try:
                scheduler = Scheduler(executor, self._settings, staging=self._folder.staging, stop=self._must_stop)
                self._work(scheduler, inputs)
            finally:
                executor.close()
            how = "interrupted" if self._signals else "stopped" if self._stopped else "finished"
        except PulvinarError as error:
            how = type(error).__name__
            raise
        finally:
            # The first error is the one to tell; the disk may be full for the ledger too.
            with suppress(*(() if how == "finished" else (PulvinarError, OSError))):
                self._finish(how)
        if self._signals:
            raise Interrupted(
                f"stopped by {self._signals[0].name}; {sum(self._counts.values())} of {self._total} items have ended",
                hint="Start the same command again: it goes on with the rest.",
            )
        join_results(self._source, self._folder, self._ledger.records())
        return self._summarise(scheduler.device)

    def _finish(self, how: str) -> None:
        self._ledger.keep_file_states(self._digests.take_fresh())
        self._ledger.end(how)
        self._ledger.export_csv(self._folder.table)

    def _summarise(self, device: str) -> BatchSummary:
        return BatchSummary(
            counts={outcome: self._counts[outcome] for outcome in OUTCOMES},
            failures=tuple(self._failed),
            not_attempted=self._total - sum(self._counts.values()),
            stopped=self._stopped,
            out=self._folder.root,
            ledger=self._folder.table,
            seconds=time.monotonic() - self._began,
            device=device,
            notes=tuple(self._notes),
        )

    def _must_stop(self) -> bool:
        return bool(self._signals or self._stopped)

    def _work(self, scheduler: Scheduler, inputs: Sequence[Path]) -> None:
        decider = Decider(self._source, self._folder, self._ledger.records(), self._digests)
        given = self._source if isinstance(self._source, TableSource) else None
        items, places = expand_inputs(
            inputs,
            lambda paths: scheduler.discover(tuple(paths)),
            tables=given is not None and given.reads_tables,
            columns=() if given is None else given.columns,
        )
        if self._must_stop():
            return
        found = name_items(
            [item for item in items if not self._is_result(item, decider)],
            places,
            decider.owner_of,
            decider.names_of,
            self._folder.is_foreign,
            decider.digest_or_nothing,
        )
        if not found:
            raise DataError(
                f"nothing to predict was found in {_listed(inputs)}",
                hint="Name files, folders, globs or a manifest; `pulvinar predict --help` lists what can be read.",
            )
        self._total = len(found)
        self._found = {one.item.item_id: one for one in found}
        self._ledger.expect(Record(one.item.item_id, one.source, one.source_key) for one in found)
        self._report(Event("found", total=self._total))
        with Feeder(decider, found) as feeder:
            for update in scheduler.run(lambda: self._next_job(feeder), lambda: feeder.is_exhausted):
                self._handle(update)

    def _is_result(self, item: Item, decider: Decider) -> bool:
        return any(self._folder.holds(path, decider.is_known) for path in item.paths[:1])

    def _next_job(self, feeder: Feeder) -> Job | None:
        """The next item that needs a worker; those that need none are recorded on the way."""
        while not self._must_stop() and (decision := feeder.take()) is not None:
            if decision.verdict == "run":
                item = decision.found.item
                return Job(feeder.number, item, decision.digests.input, Path())
            self._end(self._record_of(decision))
        return None

    def _record_of(self, decision: Decision) -> Record:
        found = decision.found
        if decision.verdict == "skip":
            return replace(
                decision.record,
                outcome="skipped",
                reason="up to date",
                source=found.source,
                source_key=found.source_key,
            )
        return Record(
            found.item.item_id,
            found.source,
            found.source_key,
            "failed",
            decision.reason,
            digests=decision.digests,
            started=now(),
            finished=now(),
        )

    def _handle(self, update: Update) -> None:
        item_id = update.job.item.item_id
        match update:
            case Started():
                self._started.setdefault(item_id, now())
                self._ledger.start(item_id, update.attempt)
                self._report(self._event("started", item_id))
            case Retried():
                self._folder.discard(update.job.staging)
                self._ledger.again(item_id, update.outcome, update.reason)
                self._report(self._event("retry", item_id, outcome=update.outcome, reason=update.reason))
            case Ended():
                self._conclude(update)

    def _conclude(self, ended: Ended) -> None:
        found = self._found[ended.job.item.item_id]
        result = ended.result
        if result is not None:
            try:
                self._folder.publish(ended.job.staging, found.item.item_id)
            except OSError as error:
                raise EnvironmentProblem(
                    f"the result of {found.item.item_id} cannot be put in its place: {error.strerror}",
                    hint="Make room or mend the folder, then start the same command again: what is done is kept.",
                ) from error
        else:
            self._folder.discard(ended.job.staging)
        self._end(
            Record(
                found.item.item_id,
                found.source,
                found.source_key,
                ended.outcome,
                ended.reason,
                ended.detail,
                ended.attempts,
                Digests(ended.job.input_digest, self._source.model_digest, self._source.settings_digest),
                result.device if result else "",
                ended.seconds,
                result.outputs if result else (),
                result.summary if result else {},
                self._started[found.item.item_id],
                now(),
            )
        )

    def _end(self, record: Record) -> None:
        """An item has ended: the ledger, the counts and the report get it from this one record."""
        if record.outcome not in ("ok", "skipped"):
            # What lies there belongs to another content, model or setting than the one that has just failed.
            self._folder.remove_result(record.item_id)
            self._failed.append(FailedItem(record.item_id, record.outcome, record.reason, record.source))
        self._ledger.record(record)
        self._ledger.keep_file_states(self._digests.take_fresh())
        self._counts[record.outcome] += 1
        took = record.seconds.read + record.seconds.compute + record.seconds.write
        event = self._event("outcome", record.item_id, outcome=record.outcome, reason=record.reason)
        self._report(replace(event, seconds=took))
        limit = self._settings.max_failures
        if limit is not None and len(self._failed) >= limit and not self._stopped:
            left = self._total - sum(self._counts.values())
            self._stopped = f"stopped after {limit} failed item{'' if limit == 1 else 's'}; {left} not attempted"
            self._report(self._event("stopped", reason=self._stopped))

    def _event(self, kind: str, item_id: str = "", *, outcome: str = "", reason: str = "") -> Event:
        return Event(
            kind,  # type: ignore[arg-type]
            item_id,
            outcome,
            reason,
            done=sum(self._counts.values()),
            total=self._total,
        )


def _check_places(inputs: Sequence[Path], out: Path) -> None:
    if not inputs:
        raise ConfigurationError("nothing to predict was named", hint="Name files, folders, globs or a manifest.")
    for path in inputs:
        if path.exists() and os.path.realpath(path) == os.path.realpath(out):
            raise ConfigurationError(
                f"{out} is an input and the output folder", hint="Name another folder with --out, such as a new one."
            )


def _listed(paths: Sequence[Path], limit: int = 3) -> str:
    names = ", ".join(str(path) for path in paths[:limit])
    return names + (f" and {len(paths) - limit} more" if len(paths) > limit else "")


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Signals that ask to stop, as they come; a second one ends the process as it would have without us."""
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number))
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
