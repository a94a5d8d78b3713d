"""A density of residuals that is learned: RealNVP in two dimensions (Dinh et al., ICLR 2017).

flow = ResidualFlow()
flow.log_density(torch.zeros(5, 2)).shape       # (5,)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ResidualFlow"]

_HIDDEN = 64
_FINEST = 0.005


class ResidualFlow(nn.Module):
    """Affine couplings that change one coordinate by the other, in turns, before a normal density.

    Args:
        couplings: How many; even ones keep the second coordinate, odd ones the first.
        prior_mean: Both coordinates of the mean of the normal density, whose covariance is the identity: 0 in the
            paper of residual log-likelihood, 0.5 in the released code of DSTA.
    """

    keep: Tensor

    def __init__(self, *, couplings: int = 6, prior_mean: float = 0.0) -> None:
        super().__init__()
        self.prior_mean = prior_mean
        keep = torch.tensor([[number % 2, 1 - number % 2] for number in range(couplings)], dtype=torch.float32)
        self.register_buffer("keep", keep, persistent=False)  # (couplings, 2)
        self.scales = nn.ModuleList(_network(bounded=True) for _ in range(couplings))
        self.shifts = nn.ModuleList(_network(bounded=False) for _ in range(couplings))

    def to_normal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, 2)` → where it lies under the normal density `(N, 2)`, and the log determinant `(N,)`."""
        determinant = x.new_zeros(len(x))
        for keep, scale, shift in reversed(list(zip(self.keep, self.scales, self.shifts, strict=True))):
            kept = keep * x
            s, t = scale(kept) * (1 - keep), shift(kept) * (1 - keep)
            x = kept + (1 - keep) * (x - t) * torch.exp(-s)
            determinant = determinant - s.sum(-1)
        return x, determinant

    def log_density(self, x: Tensor) -> Tensor:
        """Log density of residuals `(N, 2)` → `(N,)`."""
        z, determinant = self.to_normal(x)
        return -0.5 * (z - self.prior_mean).square().sum(-1) - math.log(2 * math.pi) + determinant

    @torch.no_grad()
    def spread(self, *, points: int = 201, reach: float = 8.0) -> float:
        """How far residuals lie from 0: root mean square of an axis, in units of sigma.

        Sigma alone does not tell it: the learned density may be as narrow as it likes. It is multiplied by the Laplace
        density, as in the loss, and summed over a grid that is finest around 0.

        Args:
            points: Of the grid along each axis.
            reach: Where the grid ends.
        """
        like = self.scales[0][0].weight  # type: ignore[index]
        ends = math.asinh(reach / _FINEST)
        axis = torch.sinh(torch.linspace(-ends, ends, points, device=like.device, dtype=like.dtype)) * _FINEST
        weight = torch.gradient(axis)[0]
        plane = torch.cartesian_prod(axis, axis)  # (points², 2)
        log = self.log_density(plane) - plane.abs().sum(-1) / math.sqrt(2)
        mass = (log - log.max()).exp() * torch.cartesian_prod(weight, weight).prod(-1)
        return float(((plane.square().sum(-1) / 2 * mass).sum() / mass.sum()).sqrt())


def _network(*, bounded: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        *(nn.Linear(2, _HIDDEN), nn.LeakyReLU()),
        *(nn.Linear(_HIDDEN, _HIDDEN), nn.LeakyReLU()),
        nn.Linear(_HIDDEN, 2),
    ]
    return nn.Sequential(*layers, nn.Tanh()) if bounded else nn.Sequential(*layers)
