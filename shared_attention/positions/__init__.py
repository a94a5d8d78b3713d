"""Where a token is, as parts that a mechanism is made of.

    RelativeTable     a learned bias for each offset of a window               (Swin)
    HaloTable         the same between a block and what lies around it         (HAT)
    ContinuousBias    a small network over log-spaced offsets                  (Swin v2)
    DynamicBias       a small network over plain offsets                       (CrossFormer)
    LocalEnhancement  a depthwise convolution of the values                    (CSWin)
    AxialLogits       queries against a learned vector for each axis' offset   (HaloNet)
    Rotary            rotation of queries and keys by their place, 1 to 3 axes (RoPE)

Biases give `(H, n, n)`, query first, to be added to logits `(..., H, n, n)`.

>>> import torch
>>> RelativeTable((3, 4), heads=2)().shape
torch.Size([2, 12, 12])
>>> Rotary(8, rank=2)(torch.ones(1, 2, 12, 8), (3, 4)).shape  # (B, H, n, D) stays
torch.Size([1, 2, 12, 8])
"""

from shared_attention.positions.axial import AxialLogits
from shared_attention.positions.enhancement import LocalEnhancement
from shared_attention.positions.networks import ContinuousBias, DynamicBias
from shared_attention.positions.places import coordinates, offsets, pair_index
from shared_attention.positions.relative import HaloTable, RelativeTable
from shared_attention.positions.rotary import Rotary

__all__ = [
    "AxialLogits",
    "ContinuousBias",
    "DynamicBias",
    "HaloTable",
    "LocalEnhancement",
    "RelativeTable",
    "Rotary",
    "coordinates",
    "offsets",
    "pair_index",
]
