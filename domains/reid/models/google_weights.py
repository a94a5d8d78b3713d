"""Google's ViT releases (`.npz`, as JAX names and lays out its weights) under the names of timm.

Source: Dosovitskiy et al., ICLR 2021, and Steiner et al., TMLR 2022; the names are those inside the released files.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["read_google_weights"]

_WHOLE = {
    "cls": "cls_token",
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
}
_INSIDE = {
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
    "MultiHeadDotProductAttention_1/out": "attn.proj",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_BLOCK = re.compile(r"Transformer/encoderblock_(?P<number>\d+)/(?P<inside>.+)/(?P<leaf>\w+)")
_PARTS = tuple(f"MultiHeadDotProductAttention_1/{name}" for name in ("query", "key", "value"))


def read_google_weights(path: Path) -> dict[str, Tensor]:
    """The weights of an `.npz` file under timm's names; the classifier is left out, other entries keep their names.

    Raises:
        ValueError: The file holds objects that are no arrays.
        OSError: It is no `.npz` file.
    """
    state: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            if name.startswith(("head/", "pre_logits/")):
                continue
            value = np.asarray(file[name])
            block = _BLOCK.fullmatch(name)
            if block is not None and block["inside"] in _PARTS:
                # (C, heads, D) and (heads, D): channels of one head stand together, as in timm.
                turned = value.reshape(value.shape[0], -1).T if block["leaf"] == "kernel" else value.reshape(-1)
                whole = f"blocks.{block['number']}.attn.qkv.{_LEAVES[block['leaf']]}"
                thirds.setdefault(whole, {})[block["inside"]] = torch.tensor(turned)
                continue
            inside = _INSIDE.get(block["inside"]) if block is not None else None
            named = _WHOLE.get(name, name)
            if block is not None and inside is not None:
                named = f"blocks.{block['number']}.{inside}.{_LEAVES[block['leaf']]}"
            state[named] = torch.tensor(_turned(name, value))
    for whole, found in thirds.items():
        state[whole] = torch.cat([found[part] for part in _PARTS if part in found])
    return state


def _turned(name: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Kernels have their outputs last; those of PyTorch have them first."""
    if not name.endswith("/kernel"):
        return value
    if name == "embedding/kernel":
        return value.transpose(3, 2, 0, 1)  # (p, p, 3, C) → (C, 3, p, p)
    return value.reshape(-1, value.shape[-1]).T
