"""A synthetic data set: noisy volumes with two structures, written as NIfTI. It is no anatomy.

Each volume holds a bent ellipsoid that is divided into a front and a back part, like a hippocampus, beside a bright
distractor, under a smooth bias field and noise. Volumes differ in size, pose, contrast and scale of intensities.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case, CaseTable
from pipelines.runs import write_atomically

__all__ = ["PHANTOM_CLASSES", "draw_phantom", "write_phantom"]

PHANTOM_CLASSES = {"front": 1, "back": 2}


def draw_phantom(size: tuple[int, ...], *, seed: int, index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """One volume and its labels, the same for the same arguments.

    Args:
        size: Typical extent in voxels.
        seed: Seed of the data set.
        index: Number of the volume.

    Returns:
        Image `(X, Y, Z)` float32 and labels `(X, Y, Z)` uint8: 0 background, 1 front, 2 back.
    """
    generator = np.random.default_rng([seed, index])
    shape = tuple(max(8, round(n * generator.uniform(0.875, 1.125))) for n in size)
    extent = np.array(shape, dtype=np.float64)
    centre = (extent - 1) / 2 + generator.uniform(-0.06, 0.06, 3) * extent
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1) - centre
    local = grid @ _small_rotation(generator, 0.25) / (extent * generator.uniform(0.9, 1.1, 3) / 2)  # about -1 to 1
    right, front, up = local[..., 0], local[..., 1], local[..., 2]
    bend = generator.uniform(0.15, 0.35)
    body = (right / 0.34) ** 2 + (front / 0.72) ** 2 + ((up - bend * front**2 + 0.5 * bend) / 0.32) ** 2 < 1
    labels = np.where(body, np.where(front > generator.uniform(-0.05, 0.2), 1, 2), 0).astype(np.uint8)
    distractor = ((right - 0.62) / 0.16) ** 2 + (front / 0.5) ** 2 + (up / 0.3) ** 2 < 1
    image = 0.35 + 0.08 * np.sin(3 * right + generator.uniform(0, 6)) * np.cos(2 * up)
    image = np.where(distractor & ~body, 0.9, image)
    image = np.where(labels == 1, 0.75, np.where(labels == 2, 0.62, image))
    slope = generator.uniform(-0.15, 0.15, 3)
    image = image * (1 + local @ slope) + generator.normal(0, 0.07, shape)
    return (image.clip(0) * 10 ** generator.uniform(1, 5)).astype(np.float32), labels


def write_phantom(folder: Path, *, cases: int, size: tuple[int, ...], seed: int) -> CaseTable:
    """Writes the volumes that are not there yet, and gives them as cases.

    Args:
        folder: Where to; the volumes lie in a folder of their own for each size and seed.
        cases: Number of volumes.
        size: See `draw_phantom`.
        seed: Seed of the data set.
    """
    root = folder / f"{'x'.join(map(str, size))}-{seed}"
    note = {"synthetic": True, "description": "Synthetic phantom by Pulvinar; not anatomy.", "classes": PHANTOM_CLASSES}
    write_atomically(root / "phantom.json", json.dumps(note, indent=2) + "\n")
    table = []
    for index in range(cases):
        case_id = f"phantom_{index:04d}"
        paths = {role: root / role / f"{case_id}.nii" for role in ("image", "label")}
        if not all(path.is_file() for path in paths.values()):
            image, labels = draw_phantom(size, seed=seed, index=index)
            write_atomically(paths["image"], _nifti(image))
            write_atomically(paths["label"], _nifti(labels))
        table.append(Case(case_id, case_id, paths))
    return CaseTable(tuple(table), folder, "synthetic phantom", about={"classes": PHANTOM_CLASSES})


def _nifti(array: NDArray[Any]) -> bytes:
    import nibabel

    image: Any = nibabel.Nifti1Image(array, np.eye(4))
    image.header["descrip"] = b"synthetic phantom"
    content: bytes = image.to_bytes()
    return content


def _small_rotation(generator: np.random.Generator, largest: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = generator.uniform(-largest, largest)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix
