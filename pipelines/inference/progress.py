"""Progress of a batch: a bar on a terminal, a line for each item elsewhere, always on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.inference.events import Event

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Pace", "progress_reporter"]


class Pace:
    """Items per second and the time left, from items that were worked on; those that were up to date say nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None
        self._worked = 0

    def see(self, event: Event) -> None:
        """Takes an event into account."""
        if event.kind == "started" and self._began is None:
            self._began = self._clock()
        if event.kind == "outcome" and event.outcome != "skipped" and self._began is not None:
            self._worked += 1

    def per_second(self) -> float:
        """Items per second; 0 as long as nothing is known."""
        elapsed = self._clock() - self._began if self._began is not None else 0.0
        return self._worked / elapsed if elapsed > 0 else 0.0

    def text(self, left: int) -> str:
        """`0.52 items/s, 1:23:20 left`; empty as long as nothing is known."""
        rate = self.per_second()
        if not rate:
            return ""
        seconds = round(left / rate)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        return f"{rate:.2f} items/s, {clock} left" if rate >= 0.1 else f"{60 * rate:.2f} items/min, {clock} left"


@contextmanager
def progress_reporter(console: Console | None = None, *, quiet: bool = False) -> Iterator[Callable[[Event], None]]:
    """A `report` for `predict_batch`.

    Args:
        console: Where to tell it; standard error when None.
        quiet: Tell nothing.
    """
    if quiet:
        yield lambda event: None
        return
    from rich.console import Console

    console = console or Console(stderr=True)
    with _bar(console) if console.is_terminal else _lines(console) as report:
        yield report


@contextmanager
def _lines(console: Console) -> Iterator[Callable[[Event], None]]:
    pace = Pace()

    def report(event: Event) -> None:
        pace.see(event)
        if event.kind != "started":
            tail = pace.text(event.total - event.done) if event.kind == "outcome" and event.outcome != "skipped" else ""
            console.print(event.line() + (f"  ({tail})" if tail else ""), markup=False, highlight=False, soft_wrap=True)

    yield report


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Event], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
    from rich.text import Text

    pace = Pace()
    columns = (
        SpinnerColumn(),
        TextColumn("predict"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("predict", total=None, note="loading the model, looking for items")

        def report(event: Event) -> None:
            pace.see(event)
            progress.update(task, completed=event.done, total=event.total or None)
            if event.kind == "started":
                progress.update(task, note=pace.text(event.total - event.done) or event.item_id)
            elif event.kind == "outcome" and event.outcome in ("ok", "skipped"):
                progress.update(task, note=pace.text(event.total - event.done))
            else:
                progress.console.print(Text(event.line()), highlight=False)

        yield report
