"""The output folder: who may write to it, and how results get there whole.

OUT/
  ITEM_ID/           one result: what the predictor wrote, and provenance.json
  joined/            tables put together from all results, where the task has some
  ledger.sqlite      the outcome of every item
  ledger.csv         the same as a table, written at the end of each call
  .pulvinar/
    lock             held while a call works here
    staging/         results being written
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import EnvironmentProblem
from pipelines.folders import publish_folder
from pipelines.inference.messages import Output
from pipelines.inference.worker import PROVENANCE

__all__ = ["JOINED", "OutFolder"]

JOINED = "joined"
"""The folder of tables that are put together from all results."""


class OutFolder:
    """Paths and guarantees of one output folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.ledger = self.root / "ledger.sqlite"
        self.table = self.root / "ledger.csv"
        self._own = self.root / ".pulvinar"
        self._staging = self._own / "staging"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder ready and keeps other calls away from it, for as long as this process lives.

        Raises:
            EnvironmentProblem: It cannot be written to, or another call works in it.
        """
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _not_writable(self.root, error) from error
        try:
            self._lock(handle)
            try:
                shutil.rmtree(self._staging, ignore_errors=True)
                self._staging.mkdir(exist_ok=True)
                (self._staging / "probe").mkdir()
                (self._staging / "probe").rename(self.root / ".pulvinar-probe")
                (self.root / ".pulvinar-probe").rmdir()
            except OSError as error:
                raise _not_writable(self.root, error) from error
            yield
            shutil.rmtree(self._staging, ignore_errors=True)
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 64, 0).decode(errors="replace").strip()
            raise EnvironmentProblem(
                f"another prediction is writing to {self.root} (process {holder or 'unknown'})",
                hint="Wait until it has ended, or name another output folder.",
            ) from None
        except OSError as error:
            raise EnvironmentProblem(
                f"{self.root} cannot be locked: {error.strerror}", hint="Use a folder on a local disk."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def staging(self, number: int, attempt: int) -> Path:
        """A folder for one attempt at one job; not there yet."""
        return self._staging / f"{number}-{attempt}"

    def staging_of(self, name: str) -> Path:
        """A folder for something that is not the result of one item; not there yet."""
        return self._staging / name

    def result(self, item_id: str) -> Path:
        """Where the result of an item lies."""
        return self.root / item_id

    def publish(self, staged: Path, item_id: str) -> None:
        """Puts a whole result in its place. Raises `OSError`."""
        publish_folder(staged, self.result(item_id))

    def discard(self, path: Path) -> None:
        """Deletes what an attempt left in the staging folder."""
        shutil.rmtree(path, ignore_errors=True)

    def remove_result(self, item_id: str) -> None:
        """Deletes a result that is no longer that of its item, in one step."""
        result, doomed = self.result(item_id), self._staging / f"removed-{item_id}"
        if self.is_result(item_id):
            shutil.rmtree(doomed, ignore_errors=True)
            result.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def is_result(self, item_id: str) -> bool:
        """Whether a result lies under that name."""
        return bool(self.provenance(item_id))

    def is_foreign(self, item_id: str) -> bool:
        """Whether something lies under that name that no prediction wrote."""
        path = self.result(item_id)
        return os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or self._holds_other_things(path))

    def _holds_other_things(self, path: Path) -> bool:
        return not (path / PROVENANCE).is_file() and any(path.iterdir())

    def provenance(self, item_id: str) -> dict[str, Any]:
        """What the result of an item says about itself; empty when there is none."""
        try:
            content = json.loads((self.result(item_id) / PROVENANCE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) and content.get("format") == 1 else {}

    def is_whole(self, item_id: str, outputs: Sequence[Output], digest: Callable[[Path], str]) -> bool:
        """Whether every file of a result is there and has the content it was written with."""
        folder = self.result(item_id)
        try:
            return bool(outputs) and all(
                (folder / output.path).stat().st_size == output.size and digest(folder / output.path) == output.sha256
                for output in outputs
            )
        except OSError:
            return False

    def holds(self, path: Path, names: Callable[[str], bool]) -> bool:
        """Whether `path` is something that predictions left here: a ledger, the own folder, or a result in `names`."""
        for place, root in (
            (os.path.abspath(path), str(self.root)),
            (os.path.realpath(path), os.path.realpath(self.root)),
        ):
            if place.startswith(root.rstrip(os.sep) + os.sep):
                first = Path(os.path.relpath(place, root)).parts[0]
                if first == ".pulvinar" or first.startswith("ledger.") or names(first) or self.is_result(first):
                    return True
        return False


def _not_writable(root: Path, error: OSError) -> EnvironmentProblem:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return EnvironmentProblem(
        f"output folder {root} cannot be written to: {error.strerror}",
        hint="Make room on that disk." if full else "Name another folder with --out, or have its permissions changed.",
    )
