"""The training loop.

    for each epoch:  for each optimizer step:  fetch batches → agree → engine.step → settle the losses
                     validate → keep the best → history → checkpoint

A training is a function of its seed, settings and cases. Batches and all randomness of a step derive from the step's
number, so that it can be stopped after any step, and resumed there, without a trace in the weights.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from rich.console import Console

from pipelines.cases import Case
from pipelines.errors import DataError, Interrupted, PulvinarError
from pipelines.runs import RunFolder
from pipelines.task import Task, TrainingData
from pipelines.training.checkpoints import Checkpoint
from pipelines.training.engine import Engine, StepOutcome
from pipelines.training.failures import explained, not_finite, worker_problems
from pipelines.training.fingerprint import check_fingerprint, make_fingerprint
from pipelines.training.keeper import Keeper
from pipelines.training.machine import choose_device, choose_precision, choose_workers, deterministic_kernels
from pipelines.training.plan import Plan
from pipelines.training.processes import Processes
from pipelines.training.progress import ProgressDisplay, format_duration
from pipelines.training.records import MetricSink, SafeMetrics
from pipelines.training.result import StopReason, TrainingResult
from pipelines.training.sampling import Fetched, SampleStream, batch_case_ids, make_loader
from pipelines.training.settings import TrainingSettings
from pipelines.training.signals import StopSignals
from pipelines.training.standing import Standing
from pipelines.training.validation import Validation, validate

__all__ = ["train"]

_TRACKED_AS = {"lr": "train/learning_rate", "cases_per_second": "train/cases_per_second", "seconds": "train/seconds"}


class _Word(IntEnum):
    """What a process has to say before a step; the largest word of all processes counts."""

    GO = 0
    TIME_IS_UP = 1
    STOP = 2
    PROBLEM = 3


@dataclass(frozen=True)
class _Pending:
    """Losses that may still be computing on the device."""

    outcome: StepOutcome
    epoch: int
    step: int
    lr: float


def train(
    task: Task,
    training_cases: Sequence[Case],
    validation_cases: Sequence[Case],
    run: RunFolder,
    *,
    settings: TrainingSettings,
    seed: int,
    tracker: MetricSink | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> TrainingResult:
    """Trains the task's network. In a distributed launch every process calls this, and the first one writes.

    Args:
        task: What is trained; `task.fit` was called.
        training_cases: Cases to learn from.
        validation_cases: Cases that choose the best epoch; without any, the last weights are kept.
        run: Where history, checkpoints and excluded cases are written.
        settings: How to train.
        seed: Seed of everything random.
        tracker: Where metrics go as well; when it fails, training goes on.
        resume: Whether to go on from the last checkpoint, if there is one.
        console: Where progress is shown; None is standard error.

    Raises:
        ConfigurationError: Settings cannot work together, or are not what they were when resuming.
        DataError: There is nothing to learn from.
        CaseError: A case cannot be read, and `on_bad_case` is `stop`.
        EnvironmentProblem: A full disk, a missing device, a killed loader process.
        TrainingError: The loss is not finite, or memory ran out.
        Interrupted: A signal stopped it; everything is saved for `resume=True`.
    """
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    if not training_cases:
        raise DataError("there is no training case", hint="`pulvinar plan` shows how many cases are in each part.")
    data = task.training_data(training_cases, seed=seed)
    fingerprint = make_fingerprint(
        settings,
        seed=seed,
        training=training_cases,
        validation=validation_cases,
        samples=len(data),
        metric=task.selection_metric,
    )
    with deterministic_kernels(settings.deterministic, device), ExitStack() as stack:
        engine = Engine(task, settings, seed=seed, device=device, precision=precision)
        processes = Processes(engine.accelerator.num_processes, engine.accelerator.process_index)
        plan = Plan(settings, SampleStream.over(data, settings.batch_size, seed), processes=processes.count)
        keeper = Keeper(run, processes)
        stack.enter_context(keeper.lock())
        training = _Training(
            engine,
            data,
            tuple(validation_cases),
            plan=plan,
            keeper=keeper,
            processes=processes,
            fingerprint=fingerprint,
        )
        training.prepare(
            resume=resume,
            console=(console or Console(stderr=True)) if processes.first else None,
            tracker=tracker if processes.first else None,
        )
        stack.enter_context(training.progress)
        stack.enter_context(training.signals)
        return training.run_to_end()


class _Training:
    """One session of a training: from its start, or from a checkpoint, to its end or to a signal."""

    progress: ProgressDisplay
    metrics: SafeMetrics

    def __init__(
        self,
        engine: Engine,
        data: TrainingData,
        validation_cases: tuple[Case, ...],
        *,
        plan: Plan,
        keeper: Keeper,
        processes: Processes,
        fingerprint: Mapping[str, Any],
    ) -> None:
        self.engine, self.task, self.settings = engine, engine.task, engine.settings
        self.data, self.validation_cases = data, validation_cases
        self.plan, self.keeper, self.processes, self.fingerprint = plan, keeper, processes, fingerprint
        self.workers = choose_workers(self.settings.workers, engine.device.type)
        self.standing = Standing()
        self.signals = StopSignals(self._tell_of_signal)
        self.pending: deque[_Pending] = deque()
        self.problem: PulvinarError | None = None
        self.notices: list[str] = []
        self.session_started = self.step_started = time.monotonic()
        self.busy_seconds = 0.0
        self.busy_cases = 0

    def prepare(self, *, resume: bool, console: Console | None, tracker: MetricSink | None) -> None:
        """Takes up the last checkpoint, or clears what a former training left."""
        checkpoint = self.keeper.last() if resume else None
        if checkpoint is None:
            self.keeper.clear()
        else:
            self._take_up(checkpoint)
        self.progress = ProgressDisplay(
            console, epochs=self.settings.epochs, steps_per_epoch=self.plan.steps_per_epoch, done=self.standing.step
        )
        self.metrics = SafeMetrics(tracker, self.progress.say)
        if checkpoint is not None:
            self.keeper.write_records(self.standing)
            self.progress.say(f"resumed after epoch {self.standing.epoch}, optimizer step {self.standing.step}")
        for notice in self.notices:
            self.progress.say(notice)
        if not self.validation_cases:
            self._notice("there is no validation case: the weights of the last epoch are kept, and nothing stops early")
        if self.standing.best_score is not None:
            self.progress.best(self.standing.best_score, self.standing.best_epoch, self.task.selection_metric)

    def run_to_end(self) -> TrainingResult:
        """Trains until there is a reason to stop."""
        if not self.standing.finished:
            batches = self._open_loader()
            with worker_problems(self.workers):
                while not self.standing.finished:
                    self._train_epoch(batches)
                    self._close_epoch()
        return self._result()

    def _train_epoch(self, batches: Iterator[Fetched]) -> None:
        standing = self.standing
        while standing.steps_in_epoch < self.plan.steps_per_epoch:
            self.step_started = time.monotonic()
            window = self._fetch(batches)
            word = self._agree()
            if word is _Word.STOP:
                self._interrupt()
            if word is _Word.TIME_IS_UP and standing.steps_in_epoch:
                return
            self.busy_cases += len(window) * self.settings.batch_size
            self._step(window)
            seconds = time.monotonic() - self.step_started
            standing.epoch_seconds += seconds
            self.busy_seconds += seconds

    def _fetch(self, batches: Iterator[Fetched]) -> list[Any]:
        """The batches of the next optimizer step."""
        window = []
        for _ in range(self.plan.window(self.standing.steps_in_epoch)):
            fetched = next(batches)
            self.problem = self.problem or fetched.problem
            for error in fetched.skipped:
                self._set_aside(error.case_id, error.reason)
            window.append(fetched.batch)
        return window

    def _step(self, window: list[Any]) -> None:
        standing = self.standing
        epoch, step, lr = standing.epoch + 1, standing.step + 1, self.plan.learning_rate(standing.step)
        cases = [case_id for batch in window for case_id in batch_case_ids(batch)]
        with explained(case_ids=cases, epoch=epoch, step=step, batch_size=self.settings.batch_size):
            outcome = self.engine.step(window, number=standing.step, lr=lr)
            self.pending.append(_Pending(outcome, epoch=epoch, step=step, lr=lr))
            standing.step += 1
            standing.steps_in_epoch += 1
            # On a GPU, reading a loss waits for it; reading that of the step before keeps the GPU busy meanwhile.
            self._settle(keep=1 if self.engine.device.type == "cuda" else 0)

    def _settle(self, *, keep: int = 0) -> None:
        """Reads losses from the device, checks them, and adds them up; leaves the `keep` newest for later."""
        while len(self.pending) > keep:
            pending = self.pending.popleft()
            names = pending.outcome.names
            losses = cast("list[list[float]]", pending.outcome.losses.tolist())
            norm = None if pending.outcome.norm is None else float(pending.outcome.norm)
            column = [batch[names.index("loss")] for batch in losses]
            self.problem = self.problem or not_finite(
                losses=column,
                norm=None if self.engine.scales_gradients else norm,
                case_ids=pending.outcome.case_ids,
                epoch=pending.epoch,
                step=pending.step,
                lr=pending.lr,
            )
            for batch in losses:
                for name, value in zip(names, batch, strict=True):
                    self.standing.sums[name] = self.standing.sums.get(name, 0.0) + value
            self._show_step(pending, sum(column) / len(column), norm)

    def _show_step(self, pending: _Pending, loss: float, norm: float | None) -> None:
        in_epoch = pending.step - self.standing.step + self.standing.steps_in_epoch
        rate = self.busy_cases / max(self.busy_seconds + time.monotonic() - self.step_started, 1e-9)
        self.progress.step(epoch=pending.epoch, step=in_epoch, loss=loss, lr=pending.lr, rate=rate)
        if pending.step % self.settings.log_every == 0:
            values = {"step/loss": loss, "step/learning_rate": pending.lr}
            self.metrics.log(values if norm is None else values | {"step/gradient_norm": norm}, pending.step)

    def _agree(self) -> _Word:
        """The word of all processes; raises the problem that any of them has."""
        word = _Word.GO
        if self.problem is not None:
            word = _Word.PROBLEM
        elif self.signals.received:
            word = _Word.STOP
        elif self._time_is_up():
            word = _Word.TIME_IS_UP
        word = _Word(self.processes.largest(word))
        if word is _Word.PROBLEM:
            raise next(problem for problem in self.processes.share(self.problem) if problem is not None)
        return word

    def _close_epoch(self) -> None:
        """Validates where due, keeps the best, and writes what is known now."""
        self._settle()
        word = self._agree()
        if word is _Word.STOP:
            self._interrupt()
        standing = self.standing
        epoch = standing.epoch + 1
        ends = word is _Word.TIME_IS_UP or epoch == self.settings.epochs
        row = self._training_row(epoch)
        started = time.monotonic()
        if self.validation_cases and (ends or epoch % self.settings.validate_every == 0):
            validation = self._validate()
            row |= validation.values
            self._keep_best(validation.score, epoch)
        row["seconds"] = round(standing.epoch_seconds + time.monotonic() - started, 3)
        standing.rows.append(row)
        standing.epoch, standing.steps_in_epoch, standing.epoch_seconds, standing.sums = epoch, 0, 0.0, {}
        for excluded in self.processes.share(standing.excluded):
            standing.excluded |= excluded
        standing.finished = self._reason_to_end(out_of_time=word is _Word.TIME_IS_UP)
        self.keeper.write_records(standing)
        if standing.finished or epoch % self.settings.checkpoint_every == 0:
            self._save_last()
        self.metrics.log({_TRACKED_AS.get(name, name): row[name] for name in row if name != "step"}, epoch)

    def _training_row(self, epoch: int) -> dict[str, float]:
        standing = self.standing
        batches = self.plan.batches_done(standing.steps_in_epoch)
        means = {name: value / batches for name, value in self._mean_sums().items()}
        return {
            "epoch": epoch,
            "step": standing.step,
            "seconds": 0.0,
            "lr": self.plan.learning_rate(standing.step - 1),
            "cases_per_second": round(batches * self.settings.batch_size / max(standing.epoch_seconds, 1e-9), 3),
        } | {f"train/{name}": value for name, value in means.items()}

    def _mean_sums(self) -> dict[str, float]:
        sums = self.standing.sums
        return dict(zip(sums, self.processes.mean(list(sums.values())), strict=True))

    def _validate(self) -> Validation:
        network = self.engine.refresh_served()
        self.processes.same_buffers(network)
        validation = validate(
            self.task,
            network,
            self.validation_cases,
            device=self.engine.device,
            processes=self.processes,
            skip_bad_cases=self.settings.on_bad_case == "skip",
            stop=lambda: bool(self.signals.received),
            progress=self.progress.validating,
        )
        if validation.stopped:
            self._interrupt()
        for error in validation.skipped:
            self._set_aside(error.case_id, error.reason)
        return validation

    def _keep_best(self, score: float, epoch: int) -> None:
        standing = self.standing
        if score != score or (standing.best_score is not None and score <= standing.best_score):
            standing.waited += 1
            return
        standing.best_score, standing.best_epoch, standing.waited = score, epoch, 0
        self.keeper.save_best(self.engine.served.state_dict(), epoch=epoch, step=standing.step, score=score)
        self.progress.best(score, epoch, self.task.selection_metric)

    def _reason_to_end(self, *, out_of_time: bool) -> StopReason | str:
        patience = self.settings.patience
        if self.standing.epoch >= self.settings.epochs:
            return "all epochs done"
        if out_of_time or self.processes.largest(self._time_is_up()):
            return "time is up"
        return "no improvement" if patience is not None and self.standing.waited >= patience else ""

    def _interrupt(self) -> None:
        """Saves the position and raises `Interrupted`."""
        self._settle()
        self._agree()
        self._save_last()
        names = [name for name in self.processes.share(self.signals.received) if name]
        raise Interrupted(
            f"stopped by {names[0] if names else 'a signal'} in epoch {self.standing.epoch + 1}, after optimizer step "
            f"{self.standing.step}; all of it is saved",
            hint="Type the same command with --resume to go on from there.",
        )

    def _save_last(self) -> None:
        standing = self.standing.to_state() | {"seconds": self._seconds(), "sums": self._mean_sums()}
        self.keeper.save_last(
            self.engine.weights(),
            {
                "format": 1,
                "standing": standing,
                "engine": self.engine.state(),
                "fingerprint": dict(self.fingerprint),
                "hardware": self.engine.hardware,
            },
        )

    def _take_up(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        check_fingerprint(state["fingerprint"], self.fingerprint)
        try:
            self.engine.restore(checkpoint.weights, state["engine"])
        except RuntimeError as error:
            raise DataError(
                f"the last checkpoint is of another network: {error}", hint="Start a new run without --resume."
            ) from error
        self.standing = Standing.from_state(state["standing"])
        if state["hardware"] != self.engine.hardware:
            self.notices.append(
                f"started on {state['hardware']}, resumed on {self.engine.hardware}: the weights are not those of an "
                "uninterrupted run to the last bit"
            )

    def _set_aside(self, case_id: str, reason: str) -> None:
        if case_id not in self.standing.excluded:
            self.standing.excluded[case_id] = reason
            self.progress.say(f"set aside {case_id}: {reason}")

    def _open_loader(self) -> Iterator[Fetched]:
        done = self.plan.batches_done(self.standing.steps_in_epoch)
        loader = make_loader(
            self.data,
            self.plan.stream,
            start=self.standing.epoch * self.plan.batches_per_epoch + done,
            stop=self.settings.epochs * self.plan.batches_per_epoch,
            rank=self.processes.rank,
            processes=self.processes.count,
            workers=self.workers,
            pin=self.engine.device.type == "cuda",
            skip_bad_cases=self.settings.on_bad_case == "skip",
        )
        return iter(loader)

    def _result(self) -> TrainingResult:
        standing = self.standing
        best = self.keeper.best()
        if self.validation_cases and best is None:
            self._notice(f"{self.task.selection_metric} was never defined: the weights of the last epoch are kept")
        epoch, score = (standing.epoch, None) if best is None else (best.state["epoch"], best.state["score"])
        best_of_all = "" if score is None else f"; best {self.task.selection_metric} {score:.4f} in epoch {epoch}"
        spent = format_duration(self._seconds())
        self.progress.say(f"trained {standing.epoch} epochs in {spent}: {standing.finished}{best_of_all}")
        return TrainingResult(
            best_epoch=epoch,
            best_score=score,
            epochs_done=standing.epoch,
            steps_done=standing.step,
            stopped_why=cast("StopReason", standing.finished),
            weights=self.keeper.weights(best=best is not None),
            seconds=self._seconds(),
            excluded=tuple(standing.excluded.items()),
            notices=tuple(self.notices),
        )

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self.progress.say(text)

    def _tell_of_signal(self, name: str) -> None:
        # A handler may interrupt the very write that it wants to make; then the message is not worth an error.
        with suppress(RuntimeError):
            self.progress.say(f"{name} received: finishing this step and saving; a second one stops at once")

    def _seconds(self) -> float:
        """Seconds of training, over all sessions."""
        return self.standing.seconds + time.monotonic() - self.session_started

    def _time_is_up(self) -> bool:
        return self.settings.max_minutes is not None and self._seconds() >= 60 * self.settings.max_minutes
