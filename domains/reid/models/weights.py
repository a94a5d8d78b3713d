"""Weights from a file: those of the official ViT and DeiT releases, by name.

DeiT's files and timm's name their weights alike. The releases of Google (`B_16.npz` and its like) name them in the way
of their own library; they are renamed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from domains.reid.models.google_weights import read_google_weights
from domains.reid.models.vit import VisionTransformer, resize_positions
from pipelines.errors import DataError

__all__ = ["load_official_vit", "read_state"]

_PLACES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "mixer.proj",
    "mlp.fc1": "feed_forward.expand",
    "mlp.fc2": "feed_forward.contract",
}
_NOT_USED = ("head.", "head_dist.", "pre_logits.", "dist_token", "fc_norm.")


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, of Google's `.npz`, or of a PyTorch file that holds nothing but tensors.

    Raises:
        DataError: There is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise DataError(f"no weights {path.name!r} in {path.parent.name!r}", hint="Check `model.weights`.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".npz":
            return read_google_weights(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path.name} cannot be read as weights: {type(error).__name__}",
            hint="Give a .safetensors file, Google's .npz, or a .pth file of tensors alone.",
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise DataError(f"{path.name} does not hold weights by name", hint="Give a state dict.")
    # Networks that were trained by several processes have this in front of each name.
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}


def load_official_vit(vit: VisionTransformer, state: Mapping[str, Tensor], *, source: str = "the file") -> list[str]:
    """Loads a ViT or DeiT state dict by name; positions are resized to the grid at hand, heads are left out.

    A distilled DeiT works too: its distillation token and head are left out. More blocks than the network has are an
    error, and so is anything that is not known.

    Args:
        vit: The network, changed in place.
        state: The official state dict.
        source: For messages.

    Returns:
        Names of the network that the file has nothing for (camera embeddings).

    Raises:
        DataError: Names or shapes do not fit.
    """
    converted: dict[str, Tensor] = {}
    unknown: list[str] = []
    spoilt = [name for name, value in state.items() if not value.is_floating_point() or not value.isfinite().all()]
    if spoilt:
        raise DataError(
            f"{source}: {spoilt[0]} holds no finite real numbers", hint="The file is damaged or another one."
        )
    for name, value in state.items():
        if name.startswith(_NOT_USED):
            continue
        found = _convert(name, value)
        if not found:
            unknown.append(name)
        converted |= found
    if unknown:
        raise DataError(
            f"{source}: {len(unknown)} entries are not those of a ViT or DeiT, the first: {unknown[0]}",
            hint="Give the weights as timm names them: patch_embed.proj.weight, blocks.0.attn.qkv.weight, …",
        )
    if "position" in converted:
        converted["position"] = _fit_positions(converted["position"], vit, source, distilled="dist_token" in state)
    own = vit.state_dict()
    wrong = [
        f"{name} {tuple(value.shape)}, not {tuple(own[name].shape)}" if name in own else f"{name} is not there"
        for name, value in converted.items()
        if name not in own or own[name].shape != value.shape
    ]
    missing = [name for name in own if name not in converted and not name.startswith("side.")]
    if wrong or missing:
        told = wrong[0] if wrong else f"{missing[0]} is not in the file"
        raise DataError(f"{source} does not fit this network: {told}", hint="Check `model.width` and `model.patch`.")
    vit.load_state_dict(converted, strict=False)
    return [name for name in own if name not in converted]


def _convert(name: str, value: Tensor) -> dict[str, Tensor]:
    whole = {
        "cls_token": "class_token",
        "pos_embed": "position",
        "patch_embed.proj.weight": "embed.weight",
        "patch_embed.proj.bias": "embed.bias",
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
    }
    if name in whole:
        return {whole[name]: value}
    if not name.startswith("blocks."):
        return {}
    number, _, inside = name.removeprefix("blocks.").partition(".")
    module, _, leaf = inside.rpartition(".")
    if module == "attn.qkv":
        q, k, v = value.chunk(3)
        return {f"blocks.{number}.mixer.q.{leaf}": q, f"blocks.{number}.mixer.kv.{leaf}": torch.cat([k, v])}
    return {f"blocks.{number}.{_PLACES[module]}.{leaf}": value} if module in _PLACES else {}


def _fit_positions(position: Tensor, vit: VisionTransformer, source: str, *, distilled: bool) -> Tensor:
    """Position embeddings, with one or two special tokens before them, for the network's grid.

    As many as the grid has stay as they are; others are those of a square image, and resized.
    """
    special = 1 + distilled
    count = position.shape[1] - special if position.ndim == 3 else -1
    side = round(max(count, 0) ** 0.5)
    height, width = vit.grid
    if count == height * width:
        places = position[:, special:]
    elif count > 0 and side * side == count:
        places = resize_positions(position[:, special:], (side, side), vit.grid)
    else:
        raise DataError(
            f"{source}: position embeddings {tuple(position.shape)} are neither those of a square image nor of the "
            f"{height} × {width} patches of this network",
            hint="Check `input.size`, `model.patch` and `model.stride`.",
        )
    return torch.cat([position[:, :1], places], 1) if vit.has_class_token else places
