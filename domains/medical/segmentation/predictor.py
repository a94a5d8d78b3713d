"""One trained segmentation network, ready to serve: scans in, labels on each scan's own grid out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from domains.medical.scans.dicom_seg import can_be_dicom_seg, write_dicom_seg
from domains.medical.scans.discovery import discover
from domains.medical.scans.pictures import write_picture
from domains.medical.scans.preview import preview
from domains.medical.scans.reading import read_scan
from domains.medical.scans.scan import Scan
from domains.medical.scans.writing import label_suffix, write_labels
from domains.medical.segmentation.plan import Plan
from domains.medical.segmentation.preprocess import Prepared
from domains.medical.segmentation.reading import read_files
from domains.medical.segmentation.sliding import segment_volume
from pipelines.errors import CaseError
from pipelines.task import Item, Predictor, Written

__all__ = ["LoadedScan", "Segmentation", "SegmentationPredictor"]


@dataclass(frozen=True)
class LoadedScan:
    """A scan that was read, and as the network sees it."""

    scan: Scan
    prepared: Prepared
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Segmentation:
    """Class indices `(*S)` on the grid of a scan."""

    scan: Scan
    labels: NDArray[np.unsignedinteger]
    seconds: Mapping[str, float] = field(default_factory=dict)


class SegmentationPredictor(Predictor[LoadedScan, Segmentation]):
    """Serves a network as its plan says.

    Args:
        network: Maps `(B, C, *patch)` to logits `(B, classes, *patch)`.
        plan: Classes, preprocessing and window.
        device: Where the network runs.
        precision: float32, bfloat16 or float16.
        overlap: Share of a window that its neighbour covers too.
        batch_size: Windows through the network at once.
        mirror_axes: Axes for mirrored copies.
        window: Voxels of the sliding window; default is the plan's patch.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        overlap: float = 0.5,
        batch_size: int = 2,
        mirror_axes: Sequence[int] = (),
        window: Sequence[int] | None = None,
    ) -> None:
        self._network = network.to(device).eval()
        self._plan = plan
        self._device = device
        self._precision = precision
        self._overlap = overlap
        self._batch_size = batch_size
        self._mirror_axes = tuple(mirror_axes)
        self._window = tuple(window) if window is not None else plan.patch

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The scans in files, folders and globs."""
        return discover(inputs, pictures=self._plan.preprocessing.rank == 2)

    def read(self, item: Item) -> LoadedScan:
        """Reads and preprocesses a scan. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        channels = self._plan.preprocessing.channels
        one_file_each = item.detail.get("files") == "channels"
        scan = (
            read_files(item.item_id, item.paths, channels=channels)
            if one_file_each
            else read_scan(item, channels=channels)
        )
        rank = self._plan.preprocessing.rank
        if len(scan.shape) != rank:
            raise CaseError(
                item.item_id,
                f"{len(scan.shape)} axes; the model was trained on {rank}",
                hint="Give whole volumes to a 3D model and single images to a 2D one.",
            )
        read = time.perf_counter()
        prepared = self._plan.preprocessing.prepare(scan)
        return LoadedScan(scan, prepared, {"read": read - started, "prepare": time.perf_counter() - read})

    def infer(self, loaded: LoadedScan) -> Segmentation:
        """Labels on the grid of the scan."""
        started = time.perf_counter()
        layout = loaded.prepared.layout
        # A caller may train the same network in between.
        was_training = self._network.training
        self._network.eval()
        try:
            labels: Any = segment_volume(
                self._network,
                loaded.prepared.image,
                patch=self._window,
                classes=self._plan.classes.count,
                output_shape=layout.cropped,
                overlap=self._overlap,
                batch_size=self._batch_size,
                mirror_axes=self._mirror_axes,
                device=self._device,
                precision=self._precision,
            )
        finally:
            self._network.train(was_training)
        restored = layout.restored(labels.numpy())
        return Segmentation(loaded.scan, restored, {**loaded.seconds, "infer": time.perf_counter() - started})

    def write(self, item: Item, result: Segmentation, folder: Path) -> Written:
        """Writes the labels, a preview and a JSON of volumes and timings; for DICOM a DICOM SEG too."""
        started = time.perf_counter()
        scan, names = result.scan, self._plan.classes.names
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{item.item_id}{label_suffix(scan)}"]
        write_labels(scan, result.labels, files[0], names)
        if can_be_dicom_seg(scan):
            files.append(folder / f"{item.item_id}.seg.dcm")
            write_dicom_seg(scan, result.labels, files[-1], names)
        files.append(folder / f"{item.item_id}.preview.png")
        write_picture(files[-1], preview(scan, result.labels, names))
        seconds = {**result.seconds, "write": time.perf_counter() - started}
        summary = describe_result(result, names, seconds)
        files.append(folder / f"{item.item_id}.json")
        files[-1].write_text(json.dumps({"item": item.item_id, **summary}, indent=2) + "\n")
        return Written(tuple(files), summary)


def describe_result(result: Segmentation, names: Sequence[str], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Sizes of the structures (ml for volumes, pixels and share for images), geometry, timings: plain values."""
    scan = result.scan
    # Plane by plane, as counting goes by a copy of eight bytes a voxel.
    counts = np.sum([np.bincount(plane.ravel(), minlength=len(names) + 1) for plane in result.labels], axis=0)
    structures: dict[str, dict[str, float]] = {}
    for name, count in zip(names, counts[1:], strict=True):
        if scan.is_2d:
            structures[name] = {"pixels": int(count), "share": round(float(count) / result.labels.size, 6)}
        else:
            structures[name] = {"voxels": int(count), "volume_ml": round(float(count) * scan.voxel_volume / 1000, 4)}
    return {
        "structures": structures,
        "shape": list(scan.shape),
        "spacing_mm": [round(step, 6) for step in scan.spacing],
        "notes": list(scan.notes),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
