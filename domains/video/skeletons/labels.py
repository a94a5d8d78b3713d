"""Classes of clips from a table, for skeletons whose files do not say what they show.

| column | |
|---|---|
| `clip` | the name of a clip, as the skeletons have it |
| `class` | what it shows |
| `group` | what must stay in one part of a split (a performer, a source video); may be left out |
| `split` | `train`, `validation` or `test`; may be left out |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet
from pipelines.caseids import some
from pipelines.errors import DataError
from pipelines.tablefiles import load_rows

__all__ = ["label_clips"]

_NEEDED = ("clip", "class")
_MORE = ("group", "split")
_SPLITS = ("", "train", "validation", "test")


def label_clips(found: SkeletonSet, path: Path) -> SkeletonSet:
    """The same clips with the classes of a table; clips that it does not name keep what they have.

    Args:
        found: Skeletons.
        path: `.csv`, `.tsv` or `.parquet` with the columns `clip` and `class`.

    Raises:
        DataError: The table lacks a column, names a clip twice or one that is not there, leaves a class empty, says a
            split that there is none of, or contradicts a class, group or split that the skeletons have.
    """
    told = _read(path)
    names = {one.name for one in found.sequences}
    if unknown := sorted(set(told) - names):
        raise DataError(
            f"{path.name} names what is not among the {len(names)} clips: {some(unknown)}",
            hint=f"Clips are called {some(sorted(names), limit=3)}.",
        )
    sequences = tuple(_labelled(one, told[one.name], path) if one.name in told else one for one in found.sequences)
    # An order that the source gives its classes stays; others come after it, by name.
    fresh = sorted({one.label for one in sequences} - set(found.classes) - {""})
    return SkeletonSet(found.joints, sequences, (*found.classes, *fresh))


def _read(path: Path) -> dict[str, Mapping[str, str]]:
    table = load_rows(path)
    if missing := [name for name in _NEEDED if name not in table.columns]:
        raise DataError(
            f"{path.name} has no column {', '.join(missing)}; it has {', '.join(table.columns) or 'none'}",
            hint="The first line names the columns: clip,class (and group, split, where they are known).",
        )
    told: dict[str, Mapping[str, str]] = {}
    for place, cells in table.rows:
        clip = cells["clip"]
        if not clip or not cells["class"]:
            raise DataError(f"{path.name}: {place}: {'no class' if clip else 'no clip'}", hint="Leave the line out.")
        if clip in told:
            raise DataError(f"{path.name}: {place}: the clip {clip} stands there twice")
        if cells.get("split", "") not in _SPLITS:
            raise DataError(f"{path.name}: {place}: no split {cells['split']!r}; use {', '.join(_SPLITS[1:])}")
        told[clip] = {name: cells.get(name, "") for name in (*_NEEDED, *_MORE)}
    return told


def _labelled(one: SkeletonSequence, told: Mapping[str, str], path: Path) -> SkeletonSequence:
    has = {"class": one.label, "group": one.group, "split": one.split}
    for name, value in has.items():
        if value and told[name] and value != told[name]:
            raise DataError(f"{path.name}: {one.name} is of {name} {told[name]}, but its file says {value}")
    return replace(one, label=told["class"], group=told["group"] or one.group, split=told["split"] or one.split)
