"""Cases from folders of images and labels whose file names match."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipelines.caseids import (
    GroupPattern,
    common_root,
    group_by_pattern,
    identifier_problem,
    normal_identifier,
    some,
)
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.errors import DataError

__all__ = ["FilePattern", "FolderData", "FolderPatterns", "read_folders"]

_PLACEHOLDER = re.compile(r"\{(\w*)\}|(\*)")
_KNOWN = {"case": r"[^/]+?", "group": r"[^/]+?", "channel": r"\d+"}
"""Placeholder → what it stands for, within one name between slashes."""


def _unquoted(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError('put quotation marks around a pattern that starts with a brace: "{case}.nii.gz"')
    return value


def _known_placeholders(pattern: str) -> str:
    names = [found.group(1) for found in _PLACEHOLDER.finditer(pattern) if found.group(2) is None]
    unknown = sorted({name for name in names if name not in _KNOWN})
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}}; use {{case}}, {{group}}, {{channel}} or *")
    if "case" not in names:
        raise ValueError(f"{pattern!r} does not say where the name of the case is: write {{case}} for it")
    return pattern


FilePattern = Annotated[str, BeforeValidator(_unquoted), AfterValidator(_known_placeholders)]
"""A path below `root` with `{case}` for the case's name, and if need be `{group}`, `{channel}` (digits) and `*`."""


class FolderPatterns(Section):
    """Where the files of cases are."""

    images: FilePattern | Annotated[tuple[FilePattern, ...], Field(min_length=1)]
    """Images, for example `images/{case}.nii.gz`, or `images/{case}_{channel}.nii.gz` where each channel has its file.
    A list names the channels one by one, in order."""
    labels: FilePattern | None = None
    """Labels, for example `labels/{case}.nii.gz`. A case without one is set aside."""
    masks: FilePattern | None = None
    """Regions of interest outside which nothing is judged, for example `masks/{case}.png`."""

    @model_validator(mode="after")
    def _same_names(self) -> Self:
        images = (self.images,) if isinstance(self.images, str) else self.images
        grouped = {"{group}" in pattern for pattern in (*images, self.labels, self.masks) if pattern}
        if len(grouped) > 1:
            raise ValueError("{group} is in some of the patterns only; it is part of a case's name, so use it in all")
        if any("{channel}" in pattern for pattern in (self.labels, self.masks) if pattern):
            raise ValueError("{channel} belongs to images only")
        if len(images) > 1 and any("{channel}" in pattern for pattern in images):
            raise ValueError("either list the channels one by one, or write {channel} in a single pattern")
        return self


class FolderData(FolderPatterns):
    """Folders of images and labels whose file names match."""

    format: Literal["folders"] = "folders"
    """Folders whose file names match."""
    root: FilePath
    """Folder that the patterns are below."""
    validation: FolderPatterns | None = None
    """Patterns of a validation part that lies in folders of its own; without it the part is drawn."""
    test: FolderPatterns | None = None
    """Patterns of a test part that lies in folders of its own; without it the part is drawn."""
    group_pattern: GroupPattern | None = None
    """Regular expression that finds the group (patient, subject) in the case id, for example `(patient\\d+)`.
    Without it the group is `{group}` of the pattern, else each case is its own."""


@dataclass
class _Found:
    """Case id → role → files, and what did not fit."""

    cases: dict[str, dict[str, list[Path]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    groups: dict[str, str] = field(default_factory=dict)


def read_folders(settings: FolderData) -> CaseTable:
    """Reads the cases of folders. Cases whose files do not fit together are set aside, each with its reason.

    Cases of `validation` and `test` patterns have that part; the others are still to be drawn.

    Raises:
        DataError: There is no such folder, no image matches, no case can be used, or an identifier stands twice.
    """
    root = settings.root
    if not root.is_dir():
        raise DataError(f"no folder {root.name!r} in {root.parent.name!r}", hint="Check `data.root`.")
    cases: list[Case] = []
    excluded: list[Excluded] = []
    for part, patterns in (("", settings), ("validation", settings.validation), ("test", settings.test)):
        if patterns is not None:
            _read_part(root, patterns, part, settings.group_pattern, cases, excluded)
    counted = Counter(case.case_id for case in cases)
    repeated = sorted(case_id for case_id, count in counted.items() if count > 1)
    if repeated:
        raise DataError(
            f"{len(repeated)} case ids stand in more than one part: {some(repeated)}",
            hint="Give the files of each part names of their own, or let {case} take more of the file name.",
        )
    if not cases:
        reasons = some((f"{item.case_id}: {item.reason}" for item in excluded), limit=5, separator="; ")
        raise DataError(
            f"none of the {len(excluded)} cases can be used: {reasons}", hint="Check the patterns of `data`."
        )
    cases.sort(key=lambda case: case.case_id)
    return CaseTable(
        tuple(cases),
        common_root(root, (path for case in cases for path in case.paths.values())),
        root.name,
        tuple(excluded),
    )


def _read_part(
    root: Path,
    patterns: FolderPatterns,
    part: str,
    group_pattern: str | None,
    cases: list[Case],
    excluded: list[Excluded],
) -> None:
    found = _Found()
    images = (patterns.images,) if isinstance(patterns.images, str) else patterns.images
    for number, pattern in enumerate(images):
        if not _collect(root, pattern, "image" if len(images) == 1 else f"image_{number}", found):
            raise DataError(_nothing(root, pattern), hint="Check the pattern of `data.images`.")
    others = {"label": patterns.labels, "mask": patterns.masks}
    for role, named in others.items():
        if named is not None:
            _collect(root, named, role, found)
    channels = {role for files in found.cases.values() for role in files if role.startswith("image")}
    needed = [
        *sorted(channels, key=lambda role: int(role.partition("_")[2] or 0)),
        *(r for r, p in others.items() if p),
    ]
    for case_id, files in sorted(found.cases.items()):
        group = group_by_pattern(case_id, group_pattern) if group_pattern else found.groups.get(case_id, case_id)
        problem = identifier_problem(case_id) or _files_problem(files, needed)
        if not group:
            problem = problem or f"data.group_pattern {group_pattern!r} finds nothing in the case id"
        if problem:
            excluded.append(
                Excluded(case_id, problem, _HINTS.get(problem, "Check its files and the patterns of `data`."))
            )
        else:
            cases.append(Case(case_id, group, {role: files[role][0] for role in needed}, split=part))


_HINTS = {
    "no label": "Add its label, or remove the image.",
    "label without an image": "Add its image, or remove the label.",
}


def _files_problem(files: Mapping[str, list[Path]], needed: list[str]) -> str:
    images = [role for role in needed if role.startswith("image")]
    missing = [role for role in images if role not in files]
    if len(missing) == len(images):
        return "label without an image" if "label" in files else "mask without an image"
    if missing:
        return f"channels {', '.join(role.partition('_')[2] for role in missing)} are missing"
    for role in needed:
        if role not in files:
            return f"no {role}"
        if len(files[role]) > 1:
            return f"{len(files[role])} files match as {role}: {some((path.name for path in files[role]), limit=3)}"
    return ""


def _collect(root: Path, pattern: str, role: str, found: _Found) -> int:
    """Adds every file that matches; how many did."""
    count = 0
    for path, values in _matches(root, pattern):
        case_id = normal_identifier(values["case"])
        if "group" in values:
            group = normal_identifier(values["group"])
            case_id = f"{group}_{case_id}"
            found.groups[case_id] = group
        numbered = f"{role}_{int(values['channel'])}" if "channel" in values else role
        found.cases[case_id][numbered].append(path)
        count += 1
    return count


def _matches(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Files that a pattern matches, in the order of their names, with the values of its placeholders."""
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    pending: list[tuple[Path, dict[str, str], int]] = [(root, {}, 0)]
    while pending:
        folder, values, depth = pending.pop(0)
        expression = _expression(parts[depth], values)
        last = depth == len(parts) - 1
        names = _names(folder, parts[depth])
        for name in names:
            matched = expression.fullmatch(name)
            path = folder / name
            if matched is None or (path.is_dir() and not last) is last:
                continue
            known = values | matched.groupdict()
            if last:
                yield Path(os.path.abspath(path)), known
            else:
                pending.append((path, known, depth + 1))


def _names(folder: Path, part: str) -> list[str]:
    if _PLACEHOLDER.search(part) is None:
        return [part] if (folder / part).exists() else []
    try:
        # Hidden files are never data: macOS leaves `._name` beside each file it copies.
        return sorted(name for name in os.listdir(folder) if part.startswith(".") or not name.startswith("."))
    except OSError:
        return []


def _expression(part: str, values: Mapping[str, str]) -> re.Pattern[str]:
    """A placeholder stands for the same text wherever it is repeated."""
    pieces, position, seen = [], 0, set[str]()
    for placeholder in _PLACEHOLDER.finditer(part):
        pieces.append(re.escape(part[position : placeholder.start()]))
        position = placeholder.end()
        name = placeholder.group(1)
        if name is None:
            pieces.append("[^/]*")
        elif name in values:
            pieces.append(re.escape(values[name]))
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            pieces.append(f"(?P<{name}>{_KNOWN[name]})")
            seen.add(name)
    pieces.append(re.escape(part[position:]))
    return re.compile("".join(pieces))


def _nothing(root: Path, pattern: str) -> str:
    """Says that nothing matches, and what there is instead at the deepest folder that exists."""
    folder, told = root, ""
    for part in pattern.split("/")[:-1]:
        if _PLACEHOLDER.search(part) or not (folder / part).is_dir():
            break
        folder, told = folder / part, f"{told}{part}/"
    there = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    listing = f"there is: {some(there, limit=4)}" if there else "it is empty"
    return f"no file matches {pattern!r}; in {told or 'the root folder'} {listing}"
