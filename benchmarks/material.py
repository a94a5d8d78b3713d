"""Scans and models for the inference benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from domains.medical.segmentation.task import SegmentationTask
from pipelines.fixtures import data_root
from pipelines.modelfolder import save_model

__all__ = ["INTENSITY", "description", "make_model", "make_scan", "real_scans", "synthetic_scans"]

INTENSITY = {"window": (-200.0, 800.0), "mean": 150.0, "deviation": 250.0}
"""Constants that both sides normalise with, so that their networks see the same numbers."""

_CLINICAL = ("ct_abd_3mm", "ct_thorax_3mm", "mr_abd_3mm", "niivue_spmMotor")


def description(
    *,
    classes: int,
    patch: Sequence[int],
    channels: Sequence[int] = (16, 32, 64, 128),
    spacing: Sequence[float] | None = None,
    attention: str = "none",
    precision: str = "fp32",
    batch_size: int = 2,
    overlap: float = 0.5,
) -> dict[str, Any]:
    """What `SegmentationTask.describe` gives for such a model."""
    return {
        "model": {"channels": list(channels), "attention": {"name": attention}, "deep_supervision": 1},
        "infer": {"batch_size": batch_size, "overlap": overlap, "mirror": False, "precision": precision},
        "loss": {},
        "mirror": [],
        "plan": {
            "classes": {f"class_{number}": [number] for number in range(1, classes)},
            "preprocessing": {
                "rank": len(patch),
                "channels": 1,
                "spacing": None if spacing is None else list(spacing),
                "intensity": {"name": "ct", **{key: _plain(value) for key, value in INTENSITY.items()}},
                "crop_foreground": False,
            },
            "patch": list(patch),
            "spacing": list(spacing or (1.0,) * len(patch)),
            "strides": [[2] * len(patch)] * (len(channels) - 1),
            "synthetic": True,
        },
    }


def make_model(folder: Path, described: dict[str, Any], *, seed: int = 0) -> Path:
    """A model folder with fresh weights: what it predicts means nothing, what it costs is real."""
    torch.manual_seed(seed)
    task = SegmentationTask.from_description(described)
    save_model(folder, task, task.build_network().state_dict())
    return folder


def real_scans(small: int = 12) -> list[Path]:
    """CT and MR of abdomen, thorax and head, and hippocampus MR; empty where the data are not there."""
    root = data_root()
    if root is None:
        return []
    clinical = [root / "clinical_scans" / "nifti" / f"{name}.nii.gz" for name in _CLINICAL]
    hippocampus = sorted((root / "msd_hippocampus" / "imagesTr").glob("[!.]*.nii.gz"))[:small]
    return [path for path in (*clinical, *hippocampus) if path.exists()]


def synthetic_scans(folder: Path, shapes: Sequence[Sequence[int]]) -> list[Path]:
    """Made-up scans of these shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    return [make_scan(folder / f"scan{number:02d}.nii.gz", shape, seed=number) for number, shape in enumerate(shapes)]


def make_scan(path: Path, shape: Sequence[int], *, seed: int = 0, spacing: Sequence[float] = (1, 1, 1)) -> Path:
    """A made-up scan with the look of a CT (smooth organs and fine noise), int16, axes as scanners store them."""
    import nibabel

    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, *(max(2, length // 24) for length in shape), generator=generator)
    organs = functional.interpolate(coarse, tuple(shape), mode="trilinear")[0, 0].mul_(300)
    organs.add_(torch.randn(tuple(shape), generator=generator), alpha=12).add_(100).clamp_(-1024, 3000)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nibabel.save(nibabel.Nifti1Image(organs.to(torch.int16).numpy(), affine), path)
    return path


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
