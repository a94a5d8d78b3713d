"""Where medical cases come from: a Decathlon or nnU-Net data set, folders, or a table."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.casefolders import FolderData, read_folders
from pipelines.caseids import GroupPattern, common_root, group_by_pattern, identifier_problem, normal_identifier, some
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.casetables import TableData, read_table
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.errors import DataError

__all__ = ["DecathlonData", "MedicalData", "read_decathlon", "read_medical_cases"]

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif")
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
_LARGEST_FILE = 64 * 2**20
_LISTS = {"training": "", "validation": "validation", "test": "test"}
"""Lists of a `dataset.json`, and the part that their cases name."""


class DecathlonData(Section):
    """A folder with a `dataset.json`, as the Medical Segmentation Decathlon and nnU-Net lay it out."""

    format: Literal["decathlon"] = "decathlon"
    """The layout of the Medical Segmentation Decathlon or of nnU-Net."""
    root: FilePath
    """Folder of the data set; it holds `dataset.json`."""
    group_pattern: GroupPattern | None = None
    """Regular expression that finds the group (patient) in the case id, for example `(patient\\d+)`; without it each
    case is its own group."""


MedicalData = Annotated[DecathlonData | FolderData | TableData, Field(discriminator="format")]
"""Where the cases come from, by `format`."""


def read_medical_cases(settings: DecathlonData | FolderData | TableData) -> CaseTable:
    """Reads the cases that the settings name.

    Raises:
        DataError: They cannot be read, or none can be used.
    """
    if isinstance(settings, DecathlonData):
        return read_decathlon(settings)
    if isinstance(settings, FolderData):
        return read_folders(settings)
    return read_table(settings)


def read_decathlon(settings: DecathlonData) -> CaseTable:
    """Reads `dataset.json` with its lists, or, as nnU-Net 2 has none, the folders `imagesTr`, `labelsTr` and so on.

    `about` holds `classes` (name → value, or tuple of values; background left out) and `channels` (names in order).
    Cases of a test or validation list have that part. Cases without a label, or without their files, are set aside.

    Raises:
        DataError: There is no `dataset.json`, it is not what it should be, or no case can be used.
    """
    root = settings.root
    description = _description(root)
    listed = _listed(description) or _in_folders(root, description)
    if not listed:
        raise DataError(
            "dataset.json lists no cases under 'training', and there is no image in imagesTr",
            hint="Check that the whole data set is there.",
        )
    cases: list[Case] = []
    excluded: list[Excluded] = []
    for case_id, (part, images, label) in zip(_identifiers(listed), listed, strict=True):
        paths = _paths(root, images, label)
        absent = [path for path in paths.values() if not path.is_file()]
        group = group_by_pattern(case_id, settings.group_pattern)
        problem = identifier_problem(case_id)
        hint = ""
        if absent:
            problem = problem or f"no file {some((_below(path, root) for path in absent), limit=3)}"
            hint = "Check that the whole data set is there."
        elif not label:
            problem = problem or "no label" + (f": it is in the {part} list, to be predicted only" if part else "")
            hint = "Without a label it can be predicted, not learned from or judged."
        elif not group:
            problem = problem or f"data.group_pattern {settings.group_pattern!r} finds nothing in the case id"
            hint = "Mend the pattern."
        if problem:
            excluded.append(Excluded(case_id, problem, hint))
        else:
            cases.append(Case(case_id, group, paths, split=part))
    if not cases:
        reasons = some((f"{item.case_id}: {item.reason}" for item in excluded), limit=3, separator="; ")
        raise DataError(f"none of the {len(excluded)} cases can be used: {reasons}", hint=excluded[0].hint)
    return CaseTable(
        tuple(sorted(cases, key=lambda case: case.case_id)),
        common_root(root, (path for case in cases for path in case.paths.values())),
        str(description.get("name") or root.name),
        tuple(excluded),
        {"classes": _classes(description), "channels": _channels(description)},
    )


_Listed = tuple[str, tuple[str, ...], str]
"""Part, image files and label file of one case, as they are written."""


def _description(root: Path) -> Mapping[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        raise DataError(f"no dataset.json in the folder {root.name!r}", hint="Check `data.root`.")
    if path.stat().st_size > _LARGEST_FILE:
        raise DataError(f"dataset.json has {path.stat().st_size / 2**20:.0f} MiB; it should have less than 64")
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"dataset.json is not JSON: {error}") from error
    if not isinstance(description, dict):
        raise DataError(f"dataset.json holds a {type(description).__name__}; it should hold a mapping")
    return description


def _listed(description: Mapping[str, Any]) -> list[_Listed]:
    """The cases that the lists of `dataset.json` name, or its `dataset` mapping (nnU-Net 2)."""
    listed = []
    for name, part in _LISTS.items():
        entries = description.get(name) or []
        if not isinstance(entries, list):
            raise DataError(f"dataset.json: {name!r} is a {type(entries).__name__}; it should be a list")
        for number, entry in enumerate(entries):
            listed.append(_entry(entry, part, f"{name}[{number}]"))
    mapping = description.get("dataset")
    if isinstance(mapping, dict):
        listed += [_entry(entry, "", f"dataset.{name}") for name, entry in mapping.items()]
    return listed


def _entry(entry: Any, part: str, where: str) -> _Listed:
    if isinstance(entry, str):
        return part, (entry,), ""
    if isinstance(entry, dict):
        images: Any = entry.get("images", entry.get("image"))
        images = [images] if isinstance(images, str) else images
        label = entry.get("label") or ""
        good = isinstance(images, list | tuple) and images and all(isinstance(image, str) for image in images)
        if good and isinstance(label, str):
            return part, tuple(images), label
    raise DataError(f"dataset.json: {where} should be a file, or {{image: file, label: file}}; it is {str(entry)[:80]}")


def _in_folders(root: Path, description: Mapping[str, Any]) -> list[_Listed]:
    """The layout of nnU-Net 2: `imagesTr/CASE_0000.ENDING`, `labelsTr/CASE.ENDING`, and `Ts` for a test part."""
    ending = str(description.get("file_ending") or ".nii.gz")
    listed = []
    for suffix, part in (("Tr", ""), ("Ts", "test")):
        images, labels = root / f"images{suffix}", root / f"labels{suffix}"
        if not images.is_dir():
            continue
        channels: dict[str, list[str]] = {}
        for name in sorted(os.listdir(images)):
            matched = _CHANNEL.fullmatch(name.removesuffix(ending))
            if matched and name.endswith(ending) and not name.startswith("."):
                channels.setdefault(matched["case"], []).append(f"{images.name}/{name}")
        for case, files in channels.items():
            label = f"{labels.name}/{case}{ending}"
            listed.append((part, tuple(files), label if (root / label).is_file() else ""))
    return listed


def _paths(root: Path, images: Sequence[str], label: str) -> dict[str, Path]:
    files = [_there(Path(os.path.abspath(root / image))) for image in images]
    paths = {"image": files[0]} if len(files) == 1 else {f"image_{number}": file for number, file in enumerate(files)}
    return paths | ({"label": Path(os.path.abspath(root / label))} if label else {})


def _there(path: Path) -> Path:
    """nnU-Net 1 lists `case.nii.gz` for the file `case_0000.nii.gz`."""
    stem = _stem(path.name)
    channel = path.with_name(f"{stem}_0000{path.name.removeprefix(stem)}")
    return channel if not path.exists() and channel.exists() else path


def _identifiers(listed: Sequence[_Listed]) -> list[str]:
    """File names without ending; the whole relative path where file names alone do not tell cases apart."""
    texts = [images[0] for _, images, _ in listed]
    repeated = [text for text, count in Counter(os.path.normpath(text) for text in texts).items() if count > 1]
    if repeated:
        raise DataError(f"dataset.json lists {len(repeated)} images more than once: {some(repeated)}")
    short = [_short(Path(text).name) for text in texts]
    if len(set(short)) == len(short):
        return short
    return [
        _short("_".join(part for part in Path(os.path.normpath(text)).parts if part not in {"/", ".."}))
        for text in texts
    ]


def _short(name: str) -> str:
    stem = _stem(name)
    matched = _CHANNEL.fullmatch(stem)
    return normal_identifier(matched["case"] if matched and matched["channel"] == "0000" else stem)


def _stem(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), Path(name).suffix)
    return name[: len(name) - len(ending)] if ending else name


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _classes(description: Mapping[str, Any]) -> dict[str, int | tuple[int, ...]]:
    """Class name → value, from `{"1": "tumour"}` (Decathlon) or `{"tumour": 1, "whole": [1, 2]}` (nnU-Net 2)."""
    labels = description.get("labels") or {}
    if not isinstance(labels, dict):
        raise DataError(f"dataset.json: 'labels' is a {type(labels).__name__}; it should be a mapping")
    classes: dict[str, int | tuple[int, ...]] = {}
    for key, value in labels.items():
        name, values = (value, key) if isinstance(value, str) and str(key).isdecimal() else (key, value)
        try:
            numbers = tuple(int(number) for number in (values if isinstance(values, list) else [values]))
        except (TypeError, ValueError):
            raise DataError(f"dataset.json: label {key!r}: {value!r} should pair a name with a whole number") from None
        if name in classes:
            raise DataError(f"dataset.json: the class {name!r} stands twice")
        if numbers != (0,) and name not in {"background", "ignore"}:
            classes[str(name)] = numbers[0] if len(numbers) == 1 else numbers
    return classes


def _channels(description: Mapping[str, Any]) -> tuple[str, ...]:
    named = description.get("channel_names") or description.get("modality") or {}
    if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
        return ()
    return tuple(str(named[key]) for key in sorted(named, key=int))
