"""How long an epoch is, which batches a step takes, and its learning rate: all known before training starts."""

from __future__ import annotations

from pipelines.errors import ConfigurationError, DataError, Problem
from pipelines.training.sampling import SampleStream
from pipelines.training.schedules import learning_rate_factor, warmup_length
from pipelines.training.settings import TrainingSettings

__all__ = ["Plan"]


class Plan:
    """Batches and steps of a training.

    Args:
        settings: How to train.
        stream: The order of samples.
        seed: The run's seed.
        processes: Processes that share each batch.

    Raises:
        DataError: There is no sample.
        ConfigurationError: The batch is larger than a pass, or cannot be shared.

    Attributes:
        stream: The order of samples.
        batches_per_epoch: Batches of one epoch, over all processes together.
        steps_per_epoch: Optimizer steps of one epoch; the last one may take fewer batches than the others.
    """

    def __init__(self, settings: TrainingSettings, stream: SampleStream, *, processes: int = 1) -> None:
        samples, size = stream.length, settings.batch_size
        if samples == 0:
            raise DataError("the training cases give no training sample", hint="`pulvinar validate` checks every case.")
        if settings.steps_per_epoch is None and size > samples:
            raise ConfigurationError(
                [Problem("", "train.batch_size", f"is {size}, but there are only {samples} training samples")],
                hint=f"Use at most {samples}, or set train.steps_per_epoch to draw samples more than once in an epoch.",
            )
        if size % processes:
            raise ConfigurationError(
                [Problem("", "train.batch_size", f"is {size}, which {processes} processes cannot share evenly")],
                hint=f"Use a multiple of {processes}; it counts the samples of all processes together.",
            )
        self._settings = settings
        self.stream = stream
        self.batches_per_epoch = settings.steps_per_epoch or self.stream.batches_per_pass
        self.steps_per_epoch = -(-self.batches_per_epoch // settings.accumulate)
        self._warmup = warmup_length(settings.schedule, self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        """Learning rate of an optimizer step, from 0."""
        total = self._settings.epochs * self.steps_per_epoch
        factor = learning_rate_factor(self._settings.schedule, step, total=total, warmup=self._warmup)
        return self._settings.lr * factor

    def batches_done(self, steps: int) -> int:
        """Batches that the first steps of an epoch take."""
        return min(steps * self._settings.accumulate, self.batches_per_epoch)

    def window(self, steps: int) -> int:
        """Batches that the step after so many steps of an epoch takes; none reaches into the next epoch."""
        return self.batches_done(steps + 1) - self.batches_done(steps)
