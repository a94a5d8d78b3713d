"""The two passes that are measured and counted.

>>> passes = Passes(Request("eca", (4, 5), channels=8))
>>> passes.forward()
>>> passes.training()
"""

from __future__ import annotations

import torch
from torch import nn

from shared_attention.bench.plan import Request
from shared_attention.testing import Subject

__all__ = ["Passes"]


class Passes:
    """A mechanism with tokens, ready to run.

    Args:
        request: Which one, and on what grid.
        module: The mechanism as it was built; by default it is built here.
    """

    def __init__(self, request: Request, module: nn.Module | None = None) -> None:
        self._subject = Subject(request.name, len(request.grid), request.arguments, request.channels)
        self._module = self._subject.module().to(request.device) if module is None else module
        self._x = torch.randn(request.batch, *request.grid, request.channels).to(request.device)

    def forward(self) -> None:
        """Without gradients, in evaluation mode."""
        self._module.eval()
        with torch.no_grad():
            self._subject.run(self._module, self._x)

    def training(self) -> None:
        """With the gradient of the tokens and of all parameters, in training mode."""
        self._module.train().zero_grad()
        x = self._x.detach().requires_grad_()
        outputs = [out for out in self._subject.run(self._module, x) if out.requires_grad]
        torch.autograd.backward(outputs, [torch.ones_like(out) for out in outputs])
