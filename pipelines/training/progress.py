"""What a training shows while it runs: two bars on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["ProgressDisplay", "format_duration"]

_LINE_EVERY = 30.0
_BAR_EVERY = 0.1


class ProgressDisplay:
    """Shows steps, epochs, loss, learning rate, cases a second, and the time left.

    Args:
        console: Where to show it; None shows nothing.
        epochs: Epochs of the whole training.
        steps_per_epoch: Optimizer steps of one epoch.
        done: Optimizer steps done by earlier sessions.
    """

    def __init__(self, console: Console | None, *, epochs: int, steps_per_epoch: int, done: int = 0) -> None:
        self._console = console
        self._epochs, self._steps = epochs, steps_per_epoch
        self._done_before = done
        self._started = self._shown = time.monotonic()
        self._best = self._numbers = ""
        self._bars: Progress | None = None
        self._epoch_bar = self._step_bar = TaskID(0)

    def __enter__(self) -> ProgressDisplay:
        if self._console is not None and self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                refresh_per_second=4,
                transient=True,
            )
            self._epoch_bar = self._bars.add_task("epoch", total=self._steps, note="")
            self._step_bar = self._bars.add_task("training", total=self._epochs, note="")
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def step(self, *, epoch: int, step: int, loss: float, lr: float, rate: float) -> None:
        """One more optimizer step: `epoch` from 1, `step` done in it, `rate` in cases a second."""
        now = time.monotonic()
        if self._console is None or now - self._shown < (_LINE_EVERY if self._bars is None else _BAR_EVERY):
            return
        self._shown = now
        left = self._time_left(epoch, step, now)
        self._numbers = f"loss {loss:.4f}  lr {lr:.2e}  {rate:.1f} cases/s"
        if self._bars is None:
            self._line(f"epoch {epoch}/{self._epochs}  step {step}/{self._steps}  {self._numbers}{self._best}  {left}")
            return
        self._bars.update(self._epoch_bar, completed=step, description=f"epoch {epoch}", note=self._numbers)
        whole = epoch - 1 + step / self._steps
        self._bars.update(self._step_bar, completed=int(whole), note=f"{left}{self._best}")

    def validating(self, done: int, count: int) -> None:
        """Some validation cases are judged."""
        if self._bars is not None:
            self._bars.update(self._epoch_bar, note=f"{self._numbers}  validating {done}/{count}")

    def best(self, score: float, epoch: int, metric: str) -> None:
        """There is a new best checkpoint."""
        self._best = f"  best {metric} {score:.4f} (epoch {epoch})"

    def say(self, text: str) -> None:
        """Shows a line that matters by itself."""
        if self._console is not None:
            self._line(text)

    def _time_left(self, epoch: int, step: int, now: float) -> str:
        done = (epoch - 1) * self._steps + step
        here = done - self._done_before
        if here <= 0:
            return ""
        seconds = (now - self._started) / here * (self._epochs * self._steps - done)
        return f"{format_duration(seconds)} left"

    def _line(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def format_duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
