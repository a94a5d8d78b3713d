"""Losses of regressed joints: residual log-likelihood estimation (Li et al., ICCV 2021), and the plain absolute one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from domains.video.pose.flow import ResidualFlow
from domains.video.pose.tokens import cell_centres

__all__ = ["absolute_loss", "flow_term", "looking_loss", "residual_likelihood_loss"]

_AMPLITUDE = 1 / math.sqrt(2 * math.pi)
_EPS = 1e-9


def flow_term(coordinates: Tensor, sigma: Tensor, target: Tensor, flow: ResidualFlow) -> Tensor:
    """`log σ - log φ((μ - t) / σ)` for each coordinate, `(B, J, 2)`; the density of a joint counts for both."""
    residual = (coordinates - target) / sigma
    density = flow.log_density(residual.reshape(-1, 2)).reshape(*residual.shape[:-1], 1)  # (B, J, 1)
    return torch.log(sigma) - density


def residual_likelihood_loss(
    coordinates: Tensor, sigma: Tensor, target: Tensor, weight: Tensor, flow: ResidualFlow
) -> Tensor:
    """The loss of DSTA's release: the flow, and a Laplace density as the likelihood it corrects.

    Args:
        coordinates: `(B, J, 2)`, in shares of the input.
        sigma: `(B, J, 2)`, above 0.
        target: `(B, J, 2)`.
        weight: `(B, J, 2)`, 0 for a joint that was not labelled.
        flow: The learned density.

    Returns:
        A scalar: the sum over joints and coordinates, mean over the batch.
    """
    coordinates, sigma = coordinates.float(), sigma.float()
    off = (target - coordinates).abs() / (math.sqrt(2) * sigma + _EPS)
    laplace = (torch.log(sigma / _AMPLITUDE) + off) * weight
    learned = flow_term(coordinates, sigma, target, flow) * weight[..., :1]
    return (learned + laplace).sum() / len(target)


def absolute_loss(coordinates: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference over the coordinates `(B, J, 2)` that have weight."""
    off = (target - coordinates.float()).abs() * weight
    return off.sum() / weight.sum().clamp(min=1)


def looking_loss(looks: Tensor, target: Tensor, weight: Tensor, *, spread: float) -> Tensor:
    """How far from its joint each token looked: the divergence of where it looked from a normal density there.

    Args:
        looks: `(B, J, h, w)`, logits over the cells of the map.
        target: `(B, J, 2)`, in shares of the input.
        weight: `(B, J, 2)`, 0 for a joint that was not labelled.
        spread: Deviation of the density, in cells.

    Returns:
        A scalar: the sum over joints, mean over the batch, as that of `residual_likelihood_loss`.
    """
    height, width = looks.shape[-2:]
    size = torch.tensor([width, height], dtype=target.dtype, device=target.device)
    off = (cell_centres(height, width).to(target) - target[:, :, None]) * size  # (B, J, N, 2)
    wanted = (-0.5 * (off / spread).square().sum(-1)).softmax(-1)  # (B, J, N)
    apart = functional.kl_div(looks.float().flatten(2).log_softmax(-1), wanted, reduction="none").sum(-1)  # (B, J)
    return (apart * weight[..., 0]).sum() / len(target)
