"""The hardware a training runs on: device, precision, processes, memory layout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipelines.errors import ConfigurationError, EnvironmentProblem, Problem

__all__ = [
    "Precision",
    "channels_last",
    "choose_device",
    "choose_precision",
    "choose_workers",
    "deterministic_kernels",
    "make_accelerator",
    "to_channels_last",
]

Precision = Literal["bf16", "fp16", "fp32"]


def choose_device(wish: Literal["auto", "cpu", "cuda"] = "auto") -> Literal["cpu", "cuda"]:
    """The device for a setting. Raises `EnvironmentProblem` when a GPU is asked for and there is none."""
    available = torch.cuda.is_available()
    if wish == "cuda" and not available:
        raise EnvironmentProblem(
            "train.device is cuda, but PyTorch sees no CUDA device",
            hint="Use device=auto or device=cpu; `pulvinar doctor` says what PyTorch sees.",
        )
    return "cuda" if available and wish != "cpu" else "cpu"


def choose_precision(wish: Literal["auto", "bf16", "fp16", "fp32"], device: str) -> Precision:
    """The precision of the forward pass for a setting and a device.

    Raises:
        ConfigurationError: fp16 on a CPU, which has no fast kernels for it and no gradient scaling.
    """
    if wish == "fp16" and device == "cpu":
        raise ConfigurationError(
            [Problem("", "train.precision", "fp16 needs a GPU; allowed on a CPU: auto, bf16, fp32")]
        )
    if wish != "auto":
        return wish
    if device == "cuda":
        return "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    return "bf16" if _cpu_is_fast_at_bf16() else "fp32"


def choose_workers(wish: Literal["auto"] | int, device: str) -> int:
    """Loader processes for a setting and a device."""
    if wish != "auto":
        return wish
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return 0 if device == "cpu" else max(0, min(8, len(os.sched_getaffinity(0)) // local - 1))


def make_accelerator(device: str, precision: Precision, *, compiled: bool) -> Any:
    """An `accelerate.Accelerator`: processes, mixed precision and compilation."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import TorchDynamoPlugin

    # Accelerate remembers its first precision and device for the life of the process; a second training in one process
    # may want others. The process group of a distributed launch stays.
    AcceleratorState._reset_state(reset_partial_state=int(os.environ.get("WORLD_SIZE", "1")) == 1)
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision={"fp32": "no"}.get(precision, precision),
        dynamo_plugin=TorchDynamoPlugin(backend="inductor") if compiled else None,
    )


@contextmanager
def deterministic_kernels(wanted: bool, device: str) -> Iterator[None]:
    """Restricts PyTorch to repeatable GPU kernels while entered, or lets it look for the fastest ones."""
    if device == "cpu":
        yield
        return
    before = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = not wanted
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("once", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=True)
        torch.backends.cudnn.benchmark = before[1]


def to_channels_last(network: nn.Module) -> None:
    """Lays out the kernels of all 2D and 3D convolutions with channels innermost, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.weight.data = channels_last(module.weight.data)


def channels_last(tensor: Tensor) -> Tensor:
    """Lays out images `(B, C, H, W)` and volumes `(B, C, D, H, W)` with channels innermost; leaves others alone."""
    if tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if tensor.ndim == 5:
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    return tensor


def _cpu_is_fast_at_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
