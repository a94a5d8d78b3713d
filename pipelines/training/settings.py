"""The `train:` section of a workflow."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.config.section import Section

__all__ = [
    "AdamW",
    "ConstantSchedule",
    "CosineSchedule",
    "Optimizer",
    "PolynomialSchedule",
    "Schedule",
    "StochasticGradientDescent",
    "TrainingSettings",
]


class AdamW(Section):
    """AdamW (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    """Optimizer."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay; not applied to biases, scales and other parameters of one axis."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""


class StochasticGradientDescent(Section):
    """Stochastic gradient descent with Nesterov momentum."""

    name: Literal["sgd"] = "sgd"
    """Optimizer."""
    weight_decay: float = Field(default=3e-5, ge=0)
    """Weight decay; not applied to biases, scales and other parameters of one axis."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Momentum; 0 is plain gradient descent."""


Optimizer = Annotated[AdamW | StochasticGradientDescent, Field(discriminator="name")]


class _Warmup(Section):
    warmup_epochs: float = Field(default=0, ge=0)
    """Epochs over which the learning rate rises linearly from nothing; a fraction is fine."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """The same in optimizer steps, instead of `warmup_epochs`."""

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup_steps is not None and self.warmup_epochs:
            raise ValueError("give warmup_epochs or warmup_steps, not both")
        return self


class ConstantSchedule(_Warmup):
    """The learning rate stays what it is after the warm-up."""

    name: Literal["constant"] = "constant"
    """Schedule."""


class CosineSchedule(_Warmup):
    """The learning rate falls along half a cosine (Loshchilov and Hutter, 2017)."""

    name: Literal["cosine"] = "cosine"
    """Schedule."""
    final: float = Field(default=0.0, ge=0, le=1)
    """Where it ends, as a fraction of `lr`."""


class PolynomialSchedule(_Warmup):
    """The learning rate falls as `(1 - progress) ** power`."""

    name: Literal["polynomial"] = "polynomial"
    """Schedule."""
    power: float = Field(default=0.9, gt=0)
    """Exponent; 1 is a straight line."""
    final: float = Field(default=0.0, ge=0, le=1)
    """Where it ends, as a fraction of `lr`."""


Schedule = Annotated[ConstantSchedule | CosineSchedule | PolynomialSchedule, Field(discriminator="name")]


class TrainingSettings(Section):
    """How a network is trained."""

    epochs: int = Field(default=100, ge=1)
    """Epochs at most; early stopping and `max_minutes` may end earlier."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """Batches in one epoch; null is as many as one pass over the training samples fills."""
    batch_size: int = Field(default=2, ge=1)
    """Samples in one batch, over all processes together."""
    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged for one optimizer step."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate at the top of the schedule."""
    optimizer: Optimizer = AdamW()
    """Optimizer, by name."""
    schedule: Schedule = CosineSchedule()
    """Learning rate over optimizer steps, by name."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient over all parameters; null does not clip."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights (0.999, say), which is then validated and kept; null for none."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the forward pass; auto is bf16 where the hardware is fast at it, else fp16 (GPU) or fp32 (CPU)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto is a GPU when there is one."""
    deterministic: bool = False
    """On a GPU, only kernels that give the same bits each time, at some cost in speed; on a CPU they always do."""
    channels_last: bool = False
    """Keep images and volumes with channels in the innermost axis in memory: faster convolutions on most hardware."""
    compile: bool = False
    """Compile the network with torch.compile: slower to start, faster after."""
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Processes that prepare samples, with the same result for any number; 0 is none but the training process itself.

    auto is 0 on a CPU, whose cores are busy training, and up to 8 beside a GPU."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between two validations; the last epoch is always validated."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without a better score on the validation part; null never stops early."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Epochs between two saves of the last checkpoint; a signal saves as well, and so does the end."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Stop, validate and finish after this many minutes of training; null is no limit."""
    log_every: int = Field(default=20, ge=1)
    """Optimizer steps between two losses sent to tracking."""
    on_bad_case: Literal["stop", "skip"] = "stop"
    """What a case that cannot be read does: stop the training, or be set aside, recorded in `excluded.csv`."""
