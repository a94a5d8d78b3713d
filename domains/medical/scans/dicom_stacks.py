"""From DICOM files to stacks of slices: which belong together, in which order, and where they lie.

Slices of one series, storage class, size and orientation form a stack. Where several stand at each position (phases,
echoes, b-values), a header field that tells them apart makes a stack of each; where none does, that is the stack's
problem. Slices are ordered by position along their normal, never by file name or instance number.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.dicom_headers import PHASE_FIELDS, DicomHeader, Frame

__all__ = ["Placement", "Stack", "StackProblem", "find_stacks", "place"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Slice positions may be off an even grid by this part of a gap: headers round to 0.1 mm.
_GAP_TOLERANCE = 0.1


class StackProblem(Exception):
    """Why slices do not form a grid."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Stack:
    """Slices that belong together, or one image without a position.

    Attributes:
        header: The header of the first file.
        frames: The slices; not ordered yet.
        phase: What tells it from other stacks of the series, as `Field=value`; empty where there is one.
        copies: Files that hold the same images once more, and are left out.
        problem: Why it cannot be read, when the headers already tell.
    """

    header: DicomHeader
    frames: tuple[Frame, ...]
    phase: str = ""
    copies: tuple[Path, ...] = ()
    problem: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files, copies included, each once, by name."""
        return tuple(sorted({frame.path for frame in self.frames} | set(self.copies)))


@dataclass(frozen=True)
class Placement:
    """A stack as a grid.

    Attributes:
        frames: In the order of the slices.
        affine: `(4, 4)`, (column, row, slice) → mm, RAS.
        notes: What had to be decided.
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def find_stacks(headers: Iterable[DicomHeader]) -> list[Stack]:
    """The stacks in files of any number of series, in a fixed order; each file is in one of them, or a copy."""
    groups: dict[tuple[str, ...], list[DicomHeader]] = defaultdict(list)
    for header in sorted(headers, key=lambda header: str(header.path)):
        alone = str(header.path) if header.problem and not header.series_uid else ""
        groups[(header.series_uid, header.class_uid, header.problem, alone)].append(header)
    stacks: list[Stack] = []
    for (*_, problem, _), members in groups.items():
        if problem:
            stacks.append(Stack(members[0], tuple(_bare_frame(header.path) for header in members), problem=problem))
        else:
            stacks.extend(_stacks_of_series(members))
    return stacks


def _stacks_of_series(headers: list[DicomHeader]) -> list[Stack]:
    by_size: dict[tuple[int, int], list[DicomHeader]] = defaultdict(list)
    for header in headers:
        by_size[(header.rows, header.columns)].append(header)
    stacks: list[Stack] = []
    for members in by_size.values():
        owner = {header.path: header for header in members}
        for group in _by_orientation([frame for header in members for frame in header.frames]):
            frames, copies = _without_copies(group, owner)
            for phase, part, problem in _phases(frames):
                uids = {owner[frame.path].instance_uid for frame in part}
                extra = tuple(path for path in copies if owner[path].instance_uid in uids)
                stacks.append(Stack(owner[min(frame.path for frame in part)], tuple(part), phase, extra, problem))
    return stacks


def _without_copies(frames: list[Frame], owner: Mapping[Path, DicomHeader]) -> tuple[list[Frame], tuple[Path, ...]]:
    """The frames without those of files that are there twice, told by their identifier, and the files left out."""
    first: dict[str, Path] = {}
    kept: list[Frame] = []
    copies: dict[Path, None] = {}
    for frame in frames:
        uid = owner[frame.path].instance_uid
        if frame.position is None or not uid or first.setdefault(uid, frame.path) == frame.path:
            kept.append(frame)
        else:
            copies[frame.path] = None
    return kept, tuple(copies)


def _bare_frame(path: Path) -> Frame:
    return Frame(path, 1, None, None, None, None, (1.0, 0.0), {})


def _by_orientation(frames: list[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        if frame.position is None or frame.directions is None:
            # Frames of one file stay together, so that a loop without positions is one problem and not many.
            match = next((g for g in groups if g[0].path == frame.path and g[0].position is None), None)
        else:
            match = next(
                (g for g in groups if g[0].position is not None and _same(g[0].directions, frame.directions)), None
            )
        if match is None:
            groups.append([frame])
        else:
            match.append(frame)
    return groups


def _same(first: Sequence[float] | None, second: Sequence[float] | None) -> bool:
    return (
        first is not None and second is not None and max(abs(a - b) for a, b in zip(first, second, strict=True)) < 5e-3
    )


def _phases(frames: list[Frame]) -> list[tuple[str, list[Frame], str]]:
    places = Counter(_rounded(frame) for frame in frames)
    if frames[0].position is None or max(places.values()) == 1:
        return [("", frames, "")]
    for names in chain(((name,) for name in PHASE_FIELDS), combinations(PHASE_FIELDS, 2)):
        parts: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[tuple(frame.phase.get(name, "") for name in names)].append(frame)
        # As many parts as there are images at a position: finer fields, such as a time, would tear volumes apart.
        if len(parts) == max(places.values()) and all(_distinct(part) for part in parts.values()):
            return [
                (", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)), part, "")
                for values, part in sorted(parts.items(), key=lambda entry: _natural(entry[0]))
            ]
    place, most = places.most_common(1)[0]
    doubled = sum(1 for count in places.values() if count > 1)
    where = "(" + ", ".join(f"{value:.2f}" for value in place) + ")"
    problem = (
        f"duplicate slice positions: {len(frames)} images at {len(places)} positions, {doubled} of them taken more "
        f"than once (up to {most} times, at {where} mm), and no header field tells them apart"
    )
    return [("", frames, problem)]


def _natural(values: tuple[str, ...]) -> list[tuple[int, float, str]]:
    keys = []
    for value in values:
        try:
            keys.append((0, float(value), ""))
        except ValueError:
            keys.append((1, 0.0, value))
    return keys


def _distinct(frames: list[Frame]) -> bool:
    return len({_rounded(frame) for frame in frames}) == len(frames)


def _rounded(frame: Frame) -> tuple[float, ...]:
    return tuple(round(value, 2) + 0.0 for value in frame.position or ())


def place(stack: Stack) -> Placement:
    """Orders the slices of a stack and finds their affine.

    Even gaps along a slanted line (a tilted gantry) give a sheared affine, exact to the headers.

    Raises:
        StackProblem: If directions or spacing are missing or impossible, or the slices are not evenly spaced.
    """
    frames = stack.frames
    right, down, spacing = _plane(frames[0])
    if any(not _same(frame.pixel_spacing, frames[0].pixel_spacing) for frame in frames):
        raise StackProblem(
            "pixel spacing differs between slices", "Export slices of one spacing as a series of their own."
        )
    normal = np.cross(right, down)
    positions = np.array([frame.position for frame in frames], dtype=np.float64)  # (N, 3)
    order = np.argsort(positions @ normal, kind="stable")
    positions, ordered = positions[order], tuple(frames[index] for index in order)
    notes: tuple[str, ...] = ()
    if len(ordered) == 1:
        thickness = ordered[0].thickness
        step = normal * (thickness or 1.0)
        notes = (
            ("a single slice; its extent is the slice thickness",)
            if thickness
            else ("a single slice of unknown thickness",)
        )
    else:
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _check_even(positions, normal, step, min(spacing))
        tilt = math.degrees(math.acos(min(1.0, float(step @ normal) / float(np.linalg.norm(step)))))
        if tilt > 0.1:
            notes = (f"the gantry was tilted by {tilt:.1f} degrees; the grid is sheared",)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = (
        right * spacing[1],
        down * spacing[0],
        step,
        positions[0],
    )
    return Placement(ordered, LPS_TO_RAS @ affine, notes)


def _plane(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, ...]]:
    repair = "Export the series again from the archive; its headers are incomplete."
    if frame.directions is None or frame.position is None:
        raise StackProblem("slices without a position or orientation in the patient", repair)
    right, down = np.array(frame.directions[:3]), np.array(frame.directions[3:])
    lengths = np.linalg.norm(right), np.linalg.norm(down)
    if not np.isfinite([*right, *down, *frame.position]).all():
        raise StackProblem("position or orientation is not a finite number", repair)
    if max(abs(length - 1) for length in lengths) > 0.01 or abs(float(right @ down)) > 0.01:
        raise StackProblem(f"image orientation {list(frame.directions)} is not two perpendicular unit vectors", repair)
    spacing = frame.pixel_spacing
    if spacing is None or not all(math.isfinite(value) and value > 0 for value in spacing):
        raise StackProblem(f"pixel spacing is missing or not above 0: {spacing}", repair)
    return right / lengths[0], down / lengths[1], spacing


def _check_even(
    positions: NDArray[np.float64], normal: NDArray[np.float64], step: NDArray[np.float64], pixel: float
) -> None:
    gaps = np.diff(positions @ normal)  # (N - 1,)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    off = positions - even
    along = off @ normal
    if np.abs(along).max() > _GAP_TOLERANCE * float(step @ normal):
        _raise_uneven(gaps)
    sideways = float(np.linalg.norm(off - along[:, None] * normal, axis=1).max())
    if sideways > max(0.25 * pixel, 0.1):
        raise StackProblem(
            f"slices are shifted sideways by up to {sideways:.2f} mm from a straight line",
            "The series does not sample a regular grid; export a reformatted one.",
        )


def _raise_uneven(gaps: NDArray[np.float64]) -> None:
    usual = float(np.median(gaps))
    multiples = gaps / usual
    whole = np.rint(multiples)
    if np.abs(multiples - whole).max() < _GAP_TOLERANCE and whole.min() >= 1:
        missing = int((whole - 1).sum())
        after = [int(index) + 1 for index in np.flatnonzero(whole > 1)]
        places = ", ".join(f"{index} ({gaps[index - 1]:.2f} mm)" for index in after[:5]) + (
            " …" if len(after) > 5 else ""
        )
        counted = f"{missing} slice{'s' if missing > 1 else ''} missing"
        raise StackProblem(
            f"{counted}: the gap is {usual:.2f} mm, but wider after slice {places}",
            "Fetch the whole series again from the archive.",
        )
    raise StackProblem(
        f"slice gaps vary from {gaps.min():.2f} to {gaps.max():.2f} mm",
        "Export parts of even spacing as series of their own, or resample the series to even slices first.",
    )
