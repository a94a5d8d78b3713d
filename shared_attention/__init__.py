"""Tensors in, tensors out: published attention mechanisms on one, two and three axes.

>>> import torch
>>> from shared_attention import build, card
>>> mixer = build("full", 64, rank=3)
>>> mixer(torch.zeros(2, 4, 5, 6, 64)).shape  # (B, *S, C) stays (B, *S, C)
torch.Size([2, 4, 5, 6, 64])
>>> card("full").patterns
('self', 'causal', 'cross', 'causal cross')
"""

from shared_attention.attend import attend, attend_oracle, record_attention, token_softmax, use_backend
from shared_attention.contract import Pair, Pool, Reduced, Reducer, TokenMixer
from shared_attention.registry import Argument, Card, Source, build, card, cards, names, register

__all__ = [
    "Argument",
    "Card",
    "Pair",
    "Pool",
    "Reduced",
    "Reducer",
    "Source",
    "TokenMixer",
    "attend",
    "attend_oracle",
    "build",
    "card",
    "cards",
    "names",
    "record_attention",
    "register",
    "token_softmax",
    "use_backend",
]
