"""A worker: it loads the model once, then reads, computes and writes, each in a thread of its own.

While one item is computed, the next is read and the one before is written. How many items are inside at once is decided
by the batch, which hands out no more than a few: that is what bounds the memory.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.errors import CaseError, EnvironmentProblem, PulvinarError
from pipelines.folders import sync_folder
from pipelines.inference.messages import (
    Attempt,
    Broken,
    Completed,
    Discover,
    Discovered,
    Entered,
    Job,
    Left,
    Message,
    Output,
    Ready,
    Request,
    Stage,
    Unsuccessful,
)
from pipelines.inference.source import OpenedPredictor, PredictorSource
from pipelines.task import Predictor

__all__ = ["PROVENANCE", "Worker"]

PROVENANCE = "provenance.json"
"""The file in every result that says what it was made from."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_SPOILT_WORDS = ("CUDA error", "CUDNN_STATUS_EXECUTION_FAILED", "device-side assert")


@dataclass
class _Passage:
    """A job on its way through the stages."""

    job: Job
    value: Any = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    failed: bool = False

    def attempt(self) -> Attempt:
        return Attempt(**{stage: round(seconds, 4) for stage, seconds in self.seconds.items()})


class Worker:
    """The stages of one worker.

    Args:
        source: Where the predictor comes from.
        send: Called with every message, by any of the threads.
        index: Which worker this is.
        workers: How many there are.
    """

    def __init__(self, source: PredictorSource, send: Callable[[Message], None], *, index: int, workers: int) -> None:
        self._source = source
        self._send = send
        self._place = {"index": index, "workers": workers}
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._loaded: queue.SimpleQueue[_Passage | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_Passage | None] = queue.SimpleQueue()

    def submit(self, request: Request | None) -> None:
        """Hands over a request; None ends the worker once all before it is done."""
        self._requests.put(request)

    def run(self) -> None:
        """Loads the model, then works until it is told to end."""
        try:
            opened = self._source.open(**self._place)
        except PulvinarError as error:
            self._send(Broken(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever keeps a worker from starting is told to the batch
            self._send(Broken(PulvinarError(f"the model cannot be loaded: {type(error).__name__}: {error}")))
            return
        self._send(Ready(opened.device, opened.devices))
        threads = [
            threading.Thread(target=self._read_all, args=(opened.predictor,), name="read", daemon=True),
            threading.Thread(target=self._write_all, args=(opened,), name="write", daemon=True),
        ]
        for thread in threads:
            thread.start()
        while (passage := self._loaded.get()) is not None:
            with self._stage(passage, "compute", self._results):
                passage.value = opened.predictor.infer(passage.value)
            del passage
        self._results.put(None)
        for thread in threads:
            thread.join()

    def _read_all(self, predictor: Predictor[Any, Any]) -> None:
        while (request := self._requests.get()) is not None:
            if isinstance(request, Discover):
                self._discover(predictor, request)
                continue
            passage = _Passage(request)
            with self._stage(passage, "read", self._loaded):
                passage.value = predictor.read(request.item)
            del passage
        self._loaded.put(None)

    def _write_all(self, opened: OpenedPredictor) -> None:
        while (passage := self._results.get()) is not None:
            with self._stage(passage, "write", None):
                outputs, summary = self._write(opened, passage)
            if not passage.failed:
                self._send(Completed(passage.job.number, outputs, summary, passage.attempt(), opened.device))
            del passage

    def _write(self, opened: OpenedPredictor, passage: _Passage) -> tuple[tuple[Output, ...], dict[str, Any]]:
        job = passage.job
        job.staging.mkdir(parents=True)
        started = time.perf_counter()
        written = opened.predictor.write(job.item, passage.value, job.staging)
        summary = json.loads(json.dumps(dict(written.summary), default=_plain))
        if (job.staging / PROVENANCE).exists():
            raise ValueError(f"{PROVENANCE} is the batch's own file; the predictor must not write it")
        missing = [path.name for path in written.files if not path.is_file()]
        outputs = tuple(_outputs(job.staging))
        if missing or not outputs:
            raise CaseError(job.item.item_id, f"nothing was written ({', '.join(missing) or 'no file'})")
        record = {
            "format": 1,
            "item_id": job.item.item_id,
            "input_digest": job.input_digest,
            "model_digest": self._source.model_digest,
            "settings_digest": self._source.settings_digest,
            "device": opened.device,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": {**passage.seconds, "write": time.perf_counter() - started},
            "summary": summary,
            "outputs": [asdict(output) for output in outputs],
        }
        (job.staging / PROVENANCE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sync_folder(job.staging)
        return (*outputs, _output(job.staging / PROVENANCE, job.staging)), summary

    def _discover(self, predictor: Predictor[Any, Any], request: Discover) -> None:
        try:
            self._send(Discovered(tuple(predictor.discover(request.inputs))))
        except PulvinarError as error:
            self._send(Broken(error))
        except Exception as error:  # noqa: BLE001 - told to the batch, which stops
            self._send(Broken(PulvinarError(f"the inputs cannot be searched: {type(error).__name__}: {error}")))

    @contextmanager
    def _stage(
        self, passage: _Passage, stage: Stage, following: queue.SimpleQueue[_Passage | None] | None
    ) -> Iterator[None]:
        """One stage of one job; whatever happens in it ends this job and no other."""
        started = time.perf_counter()
        self._send(Entered(passage.job.number, stage))
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001 - one case ends here, the rest goes on
            passage.seconds[stage] = time.perf_counter() - started
            passage.value, passage.failed = None, True
            self._send(_explain(passage, error))
            error.__traceback__ = None
            _release_memory()
        else:
            passage.seconds[stage] = time.perf_counter() - started
            self._send(Left(passage.job.number, stage))
            if following is not None:
                following.put(passage)


def _explain(passage: _Passage, error: BaseException) -> Message:
    """What an error in a stage means for its job and for the batch."""
    if isinstance(error, EnvironmentProblem):
        return Broken(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return Broken(
            EnvironmentProblem(
                f"results cannot be written: {os.strerror(error.errno or 0)}",
                hint="Make room, then start the same command again: what is done is kept.",
            )
        )
    job = passage.job
    memory = _is_memory(error)
    named = isinstance(error, PulvinarError)
    if isinstance(error, CaseError):
        reason = f"{error.reason}. {error.hint}".rstrip(". ") if error.hint else error.reason
    elif isinstance(error, PulvinarError):
        reason = error.message
    else:
        reason = f"{type(error).__name__}: {error}"
    return Unsuccessful(
        job.number,
        "out_of_memory" if memory else "failed",
        _without_places(reason, job),
        "" if named else _where(error),
        passage.attempt(),
        again=memory or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError | PermissionError)),
        worker_spoilt=any(word in str(error) for word in _SPOILT_WORDS) and not memory,
    )


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _MEMORY_WORDS)


def _without_places(reason: str, job: Job) -> str:
    """One line of at most 500 characters that does not tell where on the machine the files lie."""
    for path in (job.staging, *job.item.paths, job.staging.parent, *(path.parent for path in job.item.paths[:1])):
        reason = reason.replace(str(path), path.name).replace(os.path.abspath(path), path.name)
    line = " ".join(reason.split())
    return line if len(line) <= 500 else f"{line[:499]}…"


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)


def _release_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _outputs(folder: Path) -> Iterator[Output]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield _output(path, folder)


def _output(path: Path, folder: Path) -> Output:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Output(path.relative_to(folder).as_posix(), path.stat().st_size, sha256)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
