"""The ledger: what became of every item, in SQLite beside the results.

An item is `pending` until a worker takes it, then `running`, then it has one of the outcomes `ok`, `skipped`, `failed`,
`timeout` and `out_of_memory`. A call that is killed leaves `running` items; the next call makes them `pending` again.
The columns are described in docs/reference/batch-inference.md.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.errors import DataError, EnvironmentProblem
from pipelines.inference.events import OUTCOMES
from pipelines.inference.fingerprint import FileState
from pipelines.inference.messages import Attempt, Output
from pipelines.runs import write_atomically

__all__ = ["Digests", "Ledger", "Record", "now"]

VERSION = 1
_SCHEMA = """
CREATE TABLE items (
    item_id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    source_key TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (
        outcome IN ('pending', 'running', 'ok', 'skipped', 'failed', 'timeout', 'out_of_memory')),
    reason TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    input_digest TEXT NOT NULL DEFAULT '',
    model_digest TEXT NOT NULL DEFAULT '',
    settings_digest TEXT NOT NULL DEFAULT '',
    device TEXT NOT NULL DEFAULT '',
    read_seconds REAL NOT NULL DEFAULT 0,
    compute_seconds REAL NOT NULL DEFAULT 0,
    write_seconds REAL NOT NULL DEFAULT 0,
    outputs TEXT NOT NULL DEFAULT '[]',
    summary TEXT NOT NULL DEFAULT '{}',
    started TEXT NOT NULL DEFAULT '',
    finished TEXT NOT NULL DEFAULT ''
);
CREATE TABLE history (
    call INTEGER NOT NULL REFERENCES calls (call),
    time TEXT NOT NULL,
    item_id TEXT NOT NULL,
    event TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE calls (
    call INTEGER PRIMARY KEY,
    started TEXT NOT NULL,
    finished TEXT NOT NULL DEFAULT '',
    ended TEXT NOT NULL DEFAULT 'killed',
    model_digest TEXT NOT NULL,
    settings_digest TEXT NOT NULL,
    pulvinar TEXT NOT NULL
);
CREATE TABLE files (
    path_key TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sha256 TEXT NOT NULL
) WITHOUT ROWID;
"""
_HIDDEN = ("source_key",)


@dataclass(frozen=True)
class Digests:
    """What a result depends on: the content of its input, of the model, and of the settings."""

    input: str
    model: str
    settings: str


@dataclass(frozen=True)
class Record:
    """One row of the ledger; the attributes are its columns."""

    item_id: str
    source: str = ""
    source_key: str = ""
    outcome: str = "pending"
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    digests: Digests = field(default_factory=lambda: Digests("", "", ""))
    device: str = ""
    seconds: Attempt = field(default_factory=Attempt)
    outputs: tuple[Output, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str = ""

    def row(self) -> dict[str, Any]:
        """Column → value."""
        return {
            "item_id": self.item_id,
            "source": self.source,
            "source_key": self.source_key,
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "attempts": self.attempts,
            "input_digest": self.digests.input,
            "model_digest": self.digests.model,
            "settings_digest": self.digests.settings,
            "device": self.device,
            "read_seconds": self.seconds.read,
            "compute_seconds": self.seconds.compute,
            "write_seconds": self.seconds.write,
            "outputs": json.dumps([asdict(output) for output in self.outputs], ensure_ascii=False),
            "summary": json.dumps(dict(self.summary), ensure_ascii=False),
            "started": self.started,
            "finished": self.finished,
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Record:
        """The inverse of `row`."""
        same = ("item_id", "source", "source_key", "outcome", "reason", "detail", "attempts", "device")
        return cls(
            **{name: row[name] for name in (*same, "started", "finished")},
            digests=Digests(row["input_digest"], row["model_digest"], row["settings_digest"]),
            seconds=Attempt(row["read_seconds"], row["compute_seconds"], row["write_seconds"]),
            outputs=tuple(Output(**output) for output in json.loads(row["outputs"])),
            summary=json.loads(row["summary"]),
        )


def now() -> str:
    """The time, UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The ledger of one output folder. One thread uses it; the folder's lock keeps other processes away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.call = 0
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        with _told(self.path):
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA busy_timeout = 30000")
                connection.execute("PRAGMA synchronous = NORMAL")
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
                elif found != VERSION:
                    raise DataError(
                        f"{self.path.name} has version {found}; this version of pulvinar writes version {VERSION}",
                        hint="Name another output folder.",
                    )
                connection.execute("SELECT count(*) FROM items").fetchone()
            except BaseException:
                connection.close()
                raise
        return connection

    @classmethod
    def open(cls, path: Path) -> tuple[Ledger, str]:
        """Opens or creates a ledger. A file that is damaged is set aside and named in the note that is returned;
        results say themselves what they were made from, so nothing has to be predicted again for it."""
        try:
            return cls(path), ""
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
            path.rename(aside)
            for extra in ("-wal", "-shm"):
                path.with_name(path.name + extra).unlink(missing_ok=True)
            return cls(path), f"{path.name} was damaged ({error}); it is kept as {aside.name} and begun again"

    def close(self) -> None:
        """Folds the journal into the file, so that it can be copied alone."""
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def begin(self, *, model_digest: str, settings_digest: str, version: str) -> None:
        """A call starts: items that a killed one left running are pending again."""
        with self._transaction():
            cursor = self._connection.execute(
                "INSERT INTO calls (started, model_digest, settings_digest, pulvinar) VALUES (?, ?, ?, ?)",
                (now(), model_digest, settings_digest, version),
            )
            self.call = cursor.lastrowid or 0
            self._connection.execute(
                "UPDATE items SET outcome = 'pending', reason = 'interrupted' WHERE outcome = 'running'"
            )

    def end(self, how: str) -> None:
        """A call ends: `finished`, `stopped`, `interrupted`, or the name of an error."""
        with self._transaction():
            self._connection.execute(
                "UPDATE items SET outcome = 'pending', reason = 'interrupted' WHERE outcome = 'running'"
            )
            self._connection.execute("UPDATE calls SET finished = ?, ended = ? WHERE call = ?", (now(), how, self.call))

    def records(self) -> dict[str, Record]:
        """All items by name."""
        return {row["item_id"]: Record.of_row(row) for row in self._connection.execute("SELECT * FROM items")}

    def expect(self, records: Iterable[Record]) -> None:
        """Items of this call, before any work: each is pending; what is known of its last result stays."""
        with self._transaction():
            for record in records:
                self._connection.execute(
                    "INSERT INTO items (item_id, source, source_key, outcome) VALUES (?, ?, ?, 'pending') "
                    "ON CONFLICT (item_id) DO UPDATE SET source = excluded.source, source_key = excluded.source_key, "
                    "outcome = 'pending', reason = ''",
                    (record.item_id, record.source, record.source_key),
                )

    def start(self, item_id: str, attempt: int) -> None:
        """pending → running."""
        self._move(item_id, "running", f"attempt {attempt}", from_="('pending', 'running')")

    def again(self, item_id: str, outcome: str, reason: str) -> None:
        """running → pending, because the attempt ended with `outcome` and another follows."""
        self._move(item_id, "pending", f"{outcome}: {reason}", from_="('running')")

    def record(self, record: Record) -> None:
        """pending or running → an outcome, with everything that is known of the item."""
        if record.outcome not in OUTCOMES:
            raise ValueError(f"{record.outcome!r} is no outcome; an item ends as one of: {', '.join(OUTCOMES)}")
        row = record.row()
        columns = [name for name in row if name != "item_id"]
        with self._transaction():
            changed = self._connection.execute(
                f"UPDATE items SET {', '.join(f'{name} = :{name}' for name in columns)} "
                "WHERE item_id = :item_id AND outcome IN ('pending', 'running')",
                row,
            ).rowcount
            if changed != 1:
                raise ValueError(f"{record.item_id} is neither pending nor running; it cannot become {record.outcome}")
            self._remember(record.item_id, record.outcome, record.reason)

    def _move(self, item_id: str, to: str, reason: str, *, from_: str) -> None:
        with self._transaction():
            changed = self._connection.execute(
                f"UPDATE items SET outcome = ? WHERE item_id = ? AND outcome IN {from_}", (to, item_id)
            ).rowcount
            if changed != 1:
                raise ValueError(f"{item_id} cannot become {to} now")
            self._remember(item_id, to, reason)

    def _remember(self, item_id: str, event: str, reason: str) -> None:
        self._connection.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?)", (self.call, now(), item_id, event, reason)
        )

    def file_states(self) -> dict[str, FileState]:
        """Digests of files as they were last seen."""
        return {row[0]: FileState(*tuple(row)[1:]) for row in self._connection.execute("SELECT * FROM files")}

    def keep_file_states(self, states: Mapping[str, FileState]) -> None:
        """Remembers digests of files."""
        if states:
            with self._transaction():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)",
                    [(key, *state) for key, state in states.items()],
                )

    def rows(self) -> list[dict[str, Any]]:
        """All items as the table shows them, in the order of their names; JSON columns as values."""
        shown = []
        for record in sorted(self.records().values(), key=lambda record: record.item_id):
            row = {name: value for name, value in record.row().items() if name not in _HIDDEN}
            shown.append(row | {"outputs": json.loads(row["outputs"]), "summary": json.loads(row["summary"])})
        return shown

    def export_csv(self, path: Path) -> None:
        """Writes the items as CSV; `outputs` are paths relative to the output folder, `summary` is JSON."""
        text = io.StringIO()
        names = [name for name in Record("").row() if name not in _HIDDEN]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            paths = " ".join(f"{row['item_id']}/{output['path']}" for output in row["outputs"])
            writer.writerow(row | {"outputs": paths, "summary": json.dumps(row["summary"], ensure_ascii=False)})
        write_atomically(path, text.getvalue())

    def export_json(self, path: Path) -> None:
        """Writes the items as a JSON list of objects."""
        write_atomically(path, json.dumps(self.rows(), indent=2, ensure_ascii=False) + "\n")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into an error that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise EnvironmentProblem(
            f"{path.name} cannot be written: {error}",
            hint="Make room on the disk or have the permissions changed, then start the same command again.",
        ) from error
