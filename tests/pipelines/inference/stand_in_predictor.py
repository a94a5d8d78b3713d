"""A predictor whose items are text files that say what is to happen: no network, no torch, importable in workers."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import CaseError, EnvironmentProblem
from pipelines.inference.source import OpenedPredictor, digest_of
from pipelines.task import FinishedItem, Item, Predictor, Written


class StandInPredictor(Predictor[str, str]):
    """Obeys `STAGE:ACTION ARGUMENT` lines; the result of anything else is the text in capitals.

    `once` before an action makes it happen only while there is no file of that name beside the item.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        items = []
        for given in inputs:
            files = sorted(given.rglob("*")) if given.is_dir() else [given]
            for path in files:
                if path.suffix == ".broken":
                    items.append(Item(path.stem, (path,), problem="truncated"))
                elif path.suffix in (".item", ".upper") or not path.exists():
                    items.append(Item(path.stem, (path,), kind="text"))
        return items

    def read(self, item: Item) -> str:
        self._note("read", item)
        text = item.paths[0].read_text()
        self._obey("read", text, item)
        return text

    def infer(self, loaded: str) -> str:
        self._obey("compute", loaded, None)
        return loaded.upper()

    def write(self, item: Item, result: str, folder: Path) -> Written:
        target = folder / f"{item.item_id}.upper"
        half = len(result) // 2
        with target.open("w") as file:
            file.write(result[:half])
            file.flush()
            self._obey("write", result.lower(), item)
            file.write(result[half:])
        return Written((target,), {"letters": len(result)})

    def _note(self, stage: str, item: Item) -> None:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{stage} {item.item_id}\n")

    def _obey(self, stage: str, text: str, item: Item | None) -> None:
        for line in text.splitlines():
            where, _, order = line.partition(":")
            if where != stage:
                continue
            action, _, argument = order.partition(" ")
            if action == "once":
                marker, _, order = argument.partition(" ")
                if os.path.exists(marker):
                    continue
                Path(marker).touch()
                action, _, argument = order.partition(" ")
            ACTIONS[action](argument)


def _full(argument: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _bad(argument: str) -> None:
    raise CaseError("somewhere", argument or "bad", hint="Export it again.")


def _raise(error: BaseException) -> None:
    raise error


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


ACTIONS: dict[str, Any] = {
    "sleep": lambda argument: time.sleep(float(argument)),
    "crash": lambda argument: os._exit(7),
    "segv": lambda argument: os.kill(os.getpid(), signal.SIGSEGV),
    "sigkill": lambda argument: os.kill(os.getpid(), signal.SIGKILL),
    "memory": lambda argument: _raise(MemoryError("no memory")),
    "torch_memory": lambda argument: _raise(OutOfMemoryError("CUDA out of memory")),
    "spoil": lambda argument: _raise(RuntimeError("CUDA error: device-side assert triggered")),
    "bad": _bad,
    "bug": lambda argument: _raise(ValueError("unexpected shape")),
    "exit": lambda argument: _raise(SystemExit(3)),
    "io": lambda argument: _raise(OSError(errno.EIO, "Input/output error")),
    "full": _full,
    "environment": lambda argument: _raise(EnvironmentProblem("the GPU has gone", hint="Look for it.")),
    "print": lambda argument: os.write(1, argument.encode()),
}


@dataclass(frozen=True)
class StandInSource:
    """Opens the stand-in; `on_open` is obeyed while the model would be loaded."""

    model_digest: str = "model-1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    log: Path | None = None
    on_open: str = ""
    devices: int = 1

    @property
    def settings_digest(self) -> str:
        return digest_of(dict(self.settings))

    def open(self, *, index: int, workers: int) -> OpenedPredictor:
        predictor = StandInPredictor(self.log)
        predictor._obey("open", self.on_open, None)
        return OpenedPredictor(predictor, f"stand-in:{index}", self.devices)


@dataclass(frozen=True)
class JoiningSource(StandInSource):
    """Puts the texts of all results together; `join_fails` is raised half-way."""

    joins: bool = True
    join_fails: str = ""

    def join(self, results: Sequence[FinishedItem], folder: Path) -> None:
        with (folder / "all.txt").open("w") as file:
            for result in sorted(results, key=lambda result: result.item_id):
                file.write(f"{result.source}: {(result.folder / f'{result.item_id}.upper').read_text()}\n")
                file.flush()
                if self.join_fails:
                    raise OSError(errno.EIO, self.join_fails)
        if not results:
            (folder / "all.txt").unlink()
