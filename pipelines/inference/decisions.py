"""What each item needs: nothing, because its result is up to date; a worker; or an end, because it cannot be read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pipelines.inference.fingerprint import FileDigests, item_digest
from pipelines.inference.items import FoundItem, Owner, fold_name
from pipelines.inference.ledger import Digests, Record
from pipelines.inference.messages import Attempt, Output
from pipelines.inference.outfolder import OutFolder
from pipelines.inference.source import PredictorSource
from pipelines.inference.worker import PROVENANCE
from pipelines.task import Item

__all__ = ["Decider", "Decision", "Feeder"]

_AHEAD = 32


@dataclass(frozen=True)
class Decision:
    """What an item needs.

    Attributes:
        record: The result that is up to date, for `skip`.
        reason: Why it cannot be read, for `fail`.
    """

    found: FoundItem
    verdict: Literal["run", "skip", "fail"]
    digests: Digests
    record: Record = field(default_factory=lambda: Record(""))
    reason: str = ""


class Decider:
    """Compares what is to be predicted with what was."""

    def __init__(
        self, source: PredictorSource, folder: OutFolder, records: Mapping[str, Record], digests: FileDigests
    ) -> None:
        self._model, self._settings = source.model_digest, source.settings_digest
        self._folder = folder
        self._records = {fold_name(name): record for name, record in records.items()}
        self._digests = digests
        self._names: dict[str, list[str]] = {}
        for name, record in sorted(records.items()):
            self._names.setdefault(record.source_key, []).append(name)

    def is_known(self, item_id: str) -> bool:
        """Whether the ledger has that name."""
        return fold_name(item_id) in self._records

    def owner_of(self, item_id: str) -> Owner | None:
        """Whose name that is, from the ledger or else from the result that bears it."""
        record = self._records.get(fold_name(item_id))
        if record is not None:
            return Owner(record.source_key, record.digests.input)
        said = self._folder.provenance(item_id)
        return Owner("", str(said.get("input_digest", ""))) if said else None

    def names_of(self, source_key: str) -> list[str]:
        """Names that the ledger has for a place."""
        return self._names.get(source_key, [])

    def digest_or_nothing(self, item: Item) -> str:
        """Content of an item; empty when it cannot be read."""
        try:
            return item_digest(item, self._digests)
        except OSError:
            return ""

    def decide(self, found: FoundItem) -> Decision:
        """What one item needs. Reads its files, unless they were read before and have not been touched."""
        item = found.item
        try:
            content = item_digest(item, self._digests)
        except OSError as error:
            nothing = Digests("", self._model, self._settings)
            return Decision(found, "fail", nothing, reason=item.problem or _unreadable(error))
        digests = Digests(content, self._model, self._settings)
        if item.problem:
            return Decision(found, "fail", digests, reason=item.problem)
        record = self._last_result(item.item_id)
        if record.digests == digests and self._folder.is_whole(item.item_id, record.outputs, self._digests.digest):
            return Decision(found, "skip", digests, record)
        return Decision(found, "run", digests)

    def _last_result(self, item_id: str) -> Record:
        """The last result as the ledger knows it, or as it says itself (a call may have been killed before it told)."""
        record = self._records.get(fold_name(item_id))
        if record is not None and record.outputs and record.item_id == item_id:
            said = self._folder.provenance(item_id)
            if said.get("finished", "") <= record.finished or not said:
                return record
        return _record_of(item_id, self._folder.provenance(item_id), self._folder, self._digests)


def _record_of(item_id: str, said: Mapping[str, Any], folder: OutFolder, digests: FileDigests) -> Record:
    """A record from `provenance.json`; an empty one when it does not hold what it should."""
    try:
        own = folder.result(item_id) / PROVENANCE
        outputs = tuple(Output(str(one["path"]), int(one["size"]), str(one["sha256"])) for one in said["outputs"])
        seconds = Attempt(**{stage: float(said["seconds"][stage]) for stage in ("read", "compute", "write")})
        return Record(
            item_id,
            attempts=1,
            digests=Digests(said["input_digest"], said["model_digest"], said["settings_digest"]),
            device=str(said["device"]),
            seconds=seconds,
            outputs=(*outputs, Output(PROVENANCE, own.stat().st_size, digests.digest(own))) if outputs else (),
            summary=dict(said["summary"]),
            finished=str(said["finished"]),
        )
    except (KeyError, TypeError, ValueError, OSError):
        return Record(item_id)


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist, or is a link to one that does not"
    return f"it cannot be read: {error.strerror or error}"


class Feeder:
    """Decides item after item in a thread, a little ahead of the workers."""

    def __init__(self, decider: Decider, found: Sequence[FoundItem]) -> None:
        self._decider = decider
        self._found = found
        self._decided: queue.Queue[Decision | BaseException] = queue.Queue(maxsize=_AHEAD)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="decide", daemon=True)
        self.number = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    @property
    def is_exhausted(self) -> bool:
        """Whether every decision was taken."""
        return self.number == len(self._found)

    def take(self) -> Decision | None:
        """The next decision, None when there is none yet. `number` counts them."""
        try:
            decided = self._decided.get_nowait()
        except queue.Empty:
            return None
        if isinstance(decided, BaseException):
            raise decided
        self.number += 1
        return decided

    def _feed(self) -> None:
        for found in self._found:
            decided: Decision | BaseException
            try:
                decided = self._decider.decide(found)
            except Exception as error:  # noqa: BLE001 - raised again where decisions are taken
                decided = error
            while not self._closing.is_set():
                try:
                    self._decided.put(decided, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closing.is_set() or isinstance(decided, BaseException):
                return
