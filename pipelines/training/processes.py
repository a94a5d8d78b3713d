"""What the processes of a distributed training tell one another; in a single process, everything is agreed at once."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["Processes"]

Value = TypeVar("Value")


class Processes:
    """All processes of this training.

    Small words between them go through gloo, on the CPU, so that a GPU never has to wait for them.

    Args:
        count: Number of processes.
        rank: This process, from 0; the first is the one that writes.
    """

    def __init__(self, count: int = 1, rank: int = 0) -> None:
        self.count = count
        self.rank = rank
        self._group: Any = dist.new_group(backend="gloo") if count > 1 else None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def largest(self, value: int) -> int:
        """The largest value of any process."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)
        return int(tensor)

    def mean(self, values: list[float]) -> list[float]:
        """Means over processes, in double precision."""
        if self.count == 1 or not values:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._group)
        return [float(value) for value in tensor / self.count]

    def share(self, value: Value) -> list[Value]:
        """What every process says, by rank."""
        if self.count == 1:
            return [value]
        said: list[Any] = [None] * self.count
        dist.all_gather_object(said, value, group=self._group)
        return said

    def tell(self, value: Value) -> Value:
        """What the first process says."""
        if self.count == 1:
            return value
        told: list[Any] = [value]
        dist.broadcast_object_list(told, src=0, group=self._group)
        return told[0]  # type: ignore[no-any-return]

    def same_buffers(self, network: nn.Module) -> None:
        """Gives every process the running statistics of the first one."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)
