"""Bags of features in files: one bag a file, as CLAM and TRIDENT users have them.

HDF5: datasets `features` (or `feats`) `(N, F)` and `coords` `(N, 2)`, and attributes. `.pt`: a tensor `(N, F)`, or a
mapping that holds one. Both are read; HDF5 is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError

__all__ = ["BAG_SUFFIXES", "Bag", "is_bag_name", "read_bag", "read_bag_attributes", "write_bag"]

BAG_SUFFIXES = (".h5", ".hdf5", ".pt")
_FEATURES = ("features", "feats", "embeddings")
_COORDS = ("coords", "coordinates")


@dataclass(frozen=True)
class Bag:
    """The features of one slide's tiles.

    Attributes:
        features: float32 `(N, F)`.
        coords: int64 `(N, 2)`, x and y of each tile's upper left corner in pixels of level 0; None where unknown.
        attributes: What the file says of itself, as plain values: `patch_size_level0`, `mpp`, `encoder` and so on.
    """

    features: NDArray[np.float32]
    coords: NDArray[np.int64] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)


def is_bag_name(name: str) -> bool:
    """Whether a file name ends like a bag of features."""
    return name.lower().endswith(BAG_SUFFIXES)


def read_bag(case_id: str, path: Path) -> Bag:
    """Reads a bag.

    Args:
        case_id: For messages.
        path: `.h5`, `.hdf5` or `.pt`.

    Raises:
        CaseError: There is no such file, it is damaged, it holds no features, or they are empty or not finite.
    """
    if not path.is_file():
        raise CaseError(case_id, "file not found", hint=f"There is no file {path.name!r} in its folder.")
    bag = _read_pt(case_id, path) if path.suffix.lower() == ".pt" else _read_hdf5(case_id, path)
    return _checked(case_id, bag)


def read_bag_attributes(case_id: str, path: Path) -> dict[str, Any]:
    """What an HDF5 bag says of itself, without its features; `instances` and `features` count its rows and columns."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = _find(case_id, file, _FEATURES)
            rows, columns = _matrix_shape(case_id, values.shape)
            return _attributes(file) | {"instances": rows, "features": columns}
    except OSError as error:
        raise _unreadable(case_id, error) from error


def write_bag(path: Path, bag: Bag) -> None:
    """Writes a bag as HDF5, whole or not at all. Mappings among the attributes are written as JSON text."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with h5py.File(staged, "w") as file:
            file.create_dataset("features", data=bag.features.astype(np.float32, copy=False))
            coords = None
            if bag.coords is not None:
                coords = file.create_dataset("coords", data=bag.coords.astype(np.int64, copy=False))
            for key, value in bag.attributes.items():
                kept = json.dumps(value) if isinstance(value, (dict, list)) or value is None else value
                file.attrs[key] = kept
                # CLAM and TRIDENT look for them at the coordinates.
                if coords is not None:
                    coords.attrs[key] = kept
        with staged.open("rb+") as written:
            os.fsync(written.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _read_hdf5(case_id: str, path: Path) -> Bag:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            values = _find(case_id, file, _FEATURES)
            rows, columns = _matrix_shape(case_id, values.shape)
            features = np.asarray(values[()], dtype=np.float32).reshape(rows, columns)
            found = next((file[name] for name in _COORDS if isinstance(file.get(name), h5py.Dataset)), None)
            coords = None if found is None else np.asarray(found[()]).reshape(-1, found.shape[-1])[:, :2]
            return Bag(features, coords if coords is None else coords.astype(np.int64), _attributes(file))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise _unreadable(case_id, error) from error


def _find(case_id: str, file: Any, names: tuple[str, ...]) -> Any:
    import h5py

    for name in names:
        if isinstance(file.get(name), h5py.Dataset):
            return file[name]
    raise CaseError(
        case_id,
        f"no dataset {names[0]!r} in the file; it has {', '.join(list(file)[:8]) or 'none'}",
        hint="A bag has `features` (N, F) and `coords` (N, 2), as CLAM and TRIDENT write them.",
    )


def _matrix_shape(case_id: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """`(N, F)`, also from `(1, N, F)`."""
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2:
        raise CaseError(case_id, f"features of shape {shape}; they should be (N, F): one row for each tile")
    return shape[0], shape[1]


def _attributes(file: Any) -> dict[str, Any]:
    """Attributes of the coordinates, of the features and of the file, the latter first."""
    gathered: dict[str, Any] = {}
    for name in (*_COORDS, *_FEATURES):
        if name in file:
            gathered |= dict(file[name].attrs)
    return {str(key): _plain(value) for key, value in (gathered | dict(file.attrs)).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value[:1] in ("{", "[", "n"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value.tolist() if hasattr(value, "tolist") else value


def _read_pt(case_id: str, path: Path) -> Bag:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CaseError(
            case_id,
            f"cannot be read as tensors alone: {(str(error).splitlines() or ['?'])[0][:120]}",
            hint="Save the features as a tensor, or in HDF5; files that hold Python objects are not opened.",
        ) from error
    coords = None
    if isinstance(held, Mapping):
        coords = next((held[name] for name in _COORDS if isinstance(held.get(name), torch.Tensor)), None)
        features = next((held[name] for name in _FEATURES if isinstance(held.get(name), torch.Tensor)), None)
    else:
        features = held if isinstance(held, torch.Tensor) else None
    if features is None:
        raise CaseError(case_id, "no tensor of features in the file", hint="Save a tensor (N, F), or {'features': …}.")
    rows, columns = _matrix_shape(case_id, tuple(features.shape))
    corners = None if coords is None else coords.reshape(-1, coords.shape[-1])[:, :2].to(torch.int64).numpy()
    return Bag(features.to(torch.float32).reshape(rows, columns).numpy(), corners)


def _checked(case_id: str, bag: Bag) -> Bag:
    if 0 in bag.features.shape:
        raise CaseError(case_id, f"empty bag: features {bag.features.shape}", hint="The slide may hold no tissue.")
    bad = int(len(bag) - np.isfinite(bag.features).all(axis=1).sum())
    if bad:
        raise CaseError(case_id, f"{bad} of {len(bag)} tiles have features that are not finite numbers")
    if bag.coords is not None and bag.coords.shape != (len(bag), 2):
        raise CaseError(case_id, f"coords {bag.coords.shape} do not belong to features {bag.features.shape}")
    return bag


def _unreadable(case_id: str, error: Exception) -> CaseError:
    told = " ".join(str(error).split())[:120]
    return CaseError(case_id, f"not a readable HDF5 file: {told}", hint="Copy the file again from its source.")
