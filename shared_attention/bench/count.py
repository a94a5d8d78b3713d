"""What a pass does, counted rather than timed: the same on every machine, busy or not.

>>> import torch
>>> a = torch.zeros(3, 4)
>>> with Count() as count:
...     product = (a @ a.T) + 1  # 3 * 4 * 3 multiplications, 3 * 3 additions
>>> count.multiplications, count.elementwise
(36, 9)
>>> count.peak  # bytes: the product and the sum, float32
72

`counted` runs the passes of a request on tensors without values, so 100,000 tokens take no memory and next to no time.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from shared_attention.attend import Backend, use_backend
from shared_attention.bench.passes import Passes
from shared_attention.bench.plan import Request
from shared_attention.testing import Subject

__all__ = ["Count", "counted"]


class Count(TorchDispatchMode):
    """Counts the operations that run inside a `with` block, backward passes too.

    Products of matrices and convolutions count as multiplications. Fused attention is one operation that is not
    counted: choose `use_backend("oracle")` to see it. Views cost nothing; what an operation
    takes for itself while it runs is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiplications = 0
        """Of products of matrices and convolutions."""
        self.elementwise = 0
        """Numbers that all other operations wrote."""
        self.peak = 0
        """Most bytes that were held at once by tensors made inside the block."""
        self._held = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        written = [one for one in tree_leaves(out) if isinstance(one, Tensor)]
        for one in written:
            self._hold(one.untyped_storage())
        self.peak = max(self.peak, self._held)
        counter = flop_registry.get(func.overloadpacket)
        if counter is None:
            self.elementwise += sum(one.numel() for one in written)
        else:
            self.multiplications += counter(*args, **(kwargs or {}), out_val=out) // 2
        return out

    def _hold(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        size = storage.nbytes()

        def free(_: object) -> None:
            del self._alive[key]
            self._held -= size

        self._alive[key] = weakref.ref(storage, free)
        self._held += size


def counted(request: Request, *, training: bool = True, backend: Backend = "fused") -> Count:
    """Count what a pass of a request does, on tensors without values.

    Args:
        request: Its device, threads and seconds do not matter.
        training: Forward and backward; otherwise forward without gradients.
        backend: What `attend` is counted as.
    """
    subject = Subject(request.name, len(request.grid), request.arguments, request.channels)
    mode = FakeTensorMode()
    module = _without_values(subject.module(), mode)
    with mode, use_backend(backend), Count() as count:
        passes = Passes(replace(request, device="cpu"), module)
        passes.training() if training else passes.forward()
    return count


def _without_values(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(mode.from_tensor(parameter.detach()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer)
    return module
