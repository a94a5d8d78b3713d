"""Checks that every reader ends with: voxels become float32, and what cannot be used is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.scan import Reading, Scan, affine_problem
from pipelines.errors import CaseError

__all__ = ["as_labels", "brief", "check_grid", "finish_scan", "fit_picture_channels", "refuse_unusable_file"]


def brief(error: BaseException, path: Path) -> str:
    """One line of what a library said, without the folder the file lies in."""
    text = " ".join(str(error).replace(f"{path.parent}/", "").split()).partition(" - ")[0]
    return text[:120] or type(error).__name__


def refuse_unusable_file(case_id: str, path: Path) -> None:
    """Raises `CaseError` when there is no such file, it cannot be opened, or it is empty."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise CaseError(case_id, "empty file", hint="Copy the file again from its source.")
    except FileNotFoundError:
        raise CaseError(case_id, "file not found", hint=f"There is no file {path.name!r} in its folder.") from None
    except OSError as error:
        raise CaseError(case_id, f"cannot be opened: {error.strerror}", hint="Check the permissions.") from error


def finish_scan(case_id: str, reading: Reading) -> Scan:
    """A `Scan` from what a reader found.

    Returns:
        The scan, float32. Voxels that are not finite take the smallest finite value, and a note counts them.

    Raises:
        CaseError: If the affine is unusable, no voxel is finite, or all voxels are equal.
    """
    check_grid(case_id, reading)
    if np.iscomplexobj(reading.array):
        raise CaseError(case_id, "complex voxels", hint="Save the magnitude (or the phase) as a real image.")
    with np.errstate(over="ignore", invalid="ignore"):
        values = reading.array.astype(np.float32, copy=False)
    values, note = _fill_not_finite(case_id, values)
    # Two reductions, not `==`: no boolean copy of the volume is made.
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise CaseError(
            case_id, f"constant image: every voxel is {low:g}", hint="The export may have failed; look at the source."
        )
    return Scan(values, reading.affine, reading.source, reading.notes + note)


def check_grid(case_id: str, reading: Reading) -> None:
    """Raises `CaseError` when the affine is unusable or there are no voxels."""
    if problem := affine_problem(reading.affine):
        raise CaseError(case_id, problem, hint="Repair the header: every axis needs a direction and a spacing above 0.")
    if 0 in reading.array.shape:
        raise CaseError(case_id, f"no voxels: shape {reading.array.shape[1:]}", hint="Export the file again.")


def _fill_not_finite(case_id: str, values: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    # A sum is finite only if all values are (or it overflows, and then the slow path decides).
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum(dtype=np.float64)):
            return values, ()
    finite = np.isfinite(values)
    count = values.size - int(np.count_nonzero(finite))
    if count == values.size:
        raise CaseError(case_id, "no voxel is a finite number", hint="Export the scan again.")
    if count == 0:
        return values, ()
    low = values.min(where=finite, initial=np.inf)
    note = f"{count} of {values.size} voxels are NaN or infinite; they are read as the smallest finite value, {low:g}"
    return np.where(finite, values, low), (note,)


def as_labels(case_id: str, values: NDArray[Any]) -> NDArray[np.integer]:
    """Whole numbers from stored label values; 1.0000001, as float-coded labels come, is 1.

    Returns:
        The same shape, uint8 where that holds all values, else uint16, else int32.

    Raises:
        CaseError: If a value is not within 0.001 of a whole number, or too large for int32.
    """
    if not np.issubdtype(values.dtype, np.integer) and values.dtype != np.bool_:
        if np.iscomplexobj(values):
            raise CaseError(case_id, "complex label values", hint="Labels must be whole numbers.")
        rounded = np.rint(values)
        with np.errstate(invalid="ignore"):
            off = ~(np.abs(values - rounded) <= 1e-3)
        if off.any():
            raise CaseError(
                case_id,
                f"label values are not whole numbers: {int(off.sum())} voxels, for example {float(values[off][0]):g}",
                hint="Labels must be resampled with nearest neighbour, and are not probabilities.",
            )
        values = rounded
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < -(2**31) or high >= 2**31:
        raise CaseError(case_id, f"label value {float(high):g} is too large", hint="Use small whole numbers as labels.")
    if low < 0:
        return values.astype(np.int32)
    return values.astype(np.uint8 if high < 256 else np.uint16 if high < 65536 else np.int32)


def fit_picture_channels(case_id: str, planes: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """A picture `(C, H, W)` with the channels that are expected.

    Grey becomes three equal channels, three equal channels become grey; nothing is lost either way.

    Raises:
        CaseError: If that cannot be, as for colour where one channel is expected.
    """
    found = planes.shape[0]
    if found == channels:
        return planes
    if found == 1 and channels == 3:
        return np.repeat(planes, 3, axis=0)
    if found == 3 and channels == 1:
        if np.array_equal(planes[0], planes[1]) and np.array_equal(planes[0], planes[2]):
            return planes[:1]
        raise CaseError(
            case_id,
            "colour image (RGB); 1 channel was expected",
            hint="Use a model for colour images, or convert the image to grey as the training data were.",
        )
    raise CaseError(
        case_id, f"image of {found} channels; {channels} were expected", hint="Give the channels of training."
    )
