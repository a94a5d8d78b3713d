"""The network and its optimizer: one optimizer step, and what is needed to go on from it. Knows no file, no epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.errors import TrainingError
from pipelines.task import Task
from pipelines.training.machine import Precision, channels_last, make_accelerator, to_channels_last
from pipelines.training.sampling import batch_case_ids, map_tensors, seed_torch
from pipelines.training.settings import AdamW, StochasticGradientDescent, TrainingSettings

__all__ = ["Engine", "StepOutcome", "average_weights", "make_optimizer"]

_STEP = 3


@dataclass(frozen=True)
class StepOutcome:
    """Numbers of one optimizer step, still on the device.

    Attributes:
        names: Parts of the loss; `loss` is among them.
        losses: `(batches, parts)` float32.
        norm: Norm of the gradient before clipping, or None where gradients are not clipped.
        case_ids: The cases of each batch, where batches name them.
    """

    names: tuple[str, ...]
    losses: Tensor
    norm: Tensor | None
    case_ids: tuple[tuple[str, ...], ...]


class Engine:
    """A network in training.

    Args:
        task: Builds the network and knows its loss.
        settings: How to train.
        seed: The run's seed; the network is initialised from it.
        device: `cpu` or `cuda`.
        precision: Precision of the forward pass.

    Attributes:
        hardware: Where and how it computes, in words.
        network: The bare network, whose weights the optimizer changes.
        served: A second network that is validated and kept: the moving average, or the last copy of the weights.
    """

    def __init__(self, task: Task, settings: TrainingSettings, *, seed: int, device: str, precision: Precision) -> None:
        self.task, self.settings, self.seed = task, settings, seed
        self.accelerator = make_accelerator(device, precision, compiled=settings.compile)
        self.device: torch.device = self.accelerator.device
        # Sums are divided over threads, so on a CPU their number shows in the last bits.
        threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
        self.hardware = f"{device} in {precision}{threads}"
        torch.manual_seed(seed)
        self.network = task.build_network().to(self.device)
        if settings.channels_last:
            to_channels_last(self.network)
        self.served = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = make_optimizer(self.network, settings)
        self._trained = self.accelerator.prepare_model(self.network.train())
        self._stepper = self.accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self._parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    def step(self, batches: Sequence[Any], *, number: int, lr: float) -> StepOutcome:
        """One optimizer step on the mean gradient of some batches.

        Args:
            batches: Batches of equal size, on the CPU.
            number: Optimizer steps done before; all randomness of this step derives from it.
            lr: Learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        losses = []
        for index, batch in enumerate(batches):
            moved = map_tensors(batch, self._move)
            seed_torch(self.seed, _STEP, number, index, self.accelerator.process_index)
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self._trained):
                parts = _checked(self.task.loss_step(self._trained, moved))
                self.accelerator.backward(parts["loss"] / len(batches))
            losses.append(torch.stack([part.detach().float() for part in parts.values()]))
        norm = None
        if self.settings.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self._parameters, self.settings.clip_norm)
        self._stepper.step()
        self._stepper.zero_grad(set_to_none=True)
        if self.settings.ema is not None:
            average_weights(self.served, self.network, decay=self.settings.ema, updates=number)
        case_ids = tuple(tuple(batch_case_ids(batch)) for batch in batches)
        return StepOutcome(tuple(parts), torch.stack(losses), norm, case_ids)

    @property
    def scales_gradients(self) -> bool:
        """Whether an infinite gradient is part of fp16 training (the step is skipped and the scale lowered)."""
        return self.accelerator.scaler is not None

    def refresh_served(self) -> nn.Module:
        """The network to validate, with the weights as they are now."""
        if self.settings.ema is None:
            self.served.load_state_dict(self.network.state_dict())
        return self.served

    def weights(self) -> dict[str, Tensor]:
        """Weights to serve."""
        return self.refresh_served().state_dict()

    def state(self) -> dict[str, Any]:
        """Everything beside `weights` that the next step depends on; random numbers derive from its number alone."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": scaler.state_dict() if scaler is not None else None,
            "network": self.network.state_dict() if self.settings.ema is not None else None,
        }

    def restore(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """The inverse of `weights` and `state`; raises `RuntimeError` when names or shapes are another network's."""
        self.served.load_state_dict(weights)
        self.network.load_state_dict(state["network"] if state["network"] is not None else weights)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        kept = {
            index: {name: _laid_out_like(value, parameters[index]) for name, value in entries.items()}
            for index, entries in state["optimizer"].items()
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": kept})
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _move(self, tensor: Tensor) -> Tensor:
        moved = tensor.to(self.device, non_blocking=True)
        return channels_last(moved) if self.settings.channels_last else moved


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer of a setting; parameters of one axis (biases, scales of norms) are not decayed."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": settings.optimizer.weight_decay,
        },
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    chosen = settings.optimizer
    make: Callable[..., torch.optim.Optimizer]
    if isinstance(chosen, AdamW):
        make = partial(torch.optim.AdamW, betas=chosen.betas)
    elif isinstance(chosen, StochasticGradientDescent):
        make = partial(torch.optim.SGD, momentum=chosen.momentum, nesterov=chosen.momentum > 0)
    fused = all(parameter.dtype == torch.float32 for parameter in parameters)
    return make([group for group in groups if group["params"]], lr=settings.lr, fused=fused)


@torch.no_grad()
def average_weights(average: nn.Module, network: nn.Module, *, decay: float, updates: int) -> None:
    """Moves `average` towards `network`: `average = d * average + (1 - d) * network`; buffers are copied.

    Args:
        average: The moving average, changed in place.
        network: The network in training.
        decay: Decay in the long run; at first it is smaller, `(1 + updates) / (10 + updates)`, so that the average
            forgets the initial weights.
        updates: Updates before this one.
    """
    decay = min(decay, (1 + updates) / (10 + updates))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)


def _checked(parts: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if "loss" not in parts:
        raise TrainingError(f"the task's loss_step returned {', '.join(sorted(parts)) or 'nothing'}, without `loss`")
    return parts


def _laid_out_like(value: Any, parameter: Tensor) -> Any:
    """A copy in the memory layout of its parameter: the same order of additions, hence the same bits."""
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.clone()
