"""What a run would do: parameters, floating-point operations and memory of one training step, measured without data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.task import Task

__all__ = ["StepCost", "measure_step"]

_GRADIENT_AND_MOMENTS = 3
"""Copies of the parameters beside the parameters themselves: the gradient and AdamW's two running means."""


@dataclass(frozen=True)
class StepCost:
    """Cost of one training step.

    Attributes:
        parameters: Trained parameters of the network.
        forward_flops: Floating-point operations of one forward pass of a batch (a multiply-add counts as two).
        saved_bytes: Activations kept for the backward pass, in the precision they would be kept in.
        step_bytes: `saved_bytes`, the batch, the parameters, their gradients and the optimizer's state.
        batch_shapes: Name → shape of each tensor in a batch.
    """

    parameters: int
    forward_flops: int
    saved_bytes: int
    step_bytes: int
    batch_shapes: dict[str, list[int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_step(task: Task, batch_size: int) -> StepCost:
    """Runs one forward pass on zeros on the CPU, counting operations and what the backward pass would need."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network = task.build_network()
    batch = task.example_batch(batch_size)
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    own = {parameter.data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = task.loss_step(network, batch)
    del losses
    tensors: Mapping[str, Any] = batch if isinstance(batch, Mapping) else {}
    shapes = {name: list(value.shape) for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    batch_bytes = sum(value.nbytes for value in tensors.values() if isinstance(value, torch.Tensor))
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return StepCost(
        parameters=parameters,
        forward_flops=int(counter.get_total_flops()),
        saved_bytes=sum(saved.values()),
        step_bytes=sum(saved.values()) + batch_bytes + weights * (1 + _GRADIENT_AND_MOMENTS),
        batch_shapes=shapes,
    )
