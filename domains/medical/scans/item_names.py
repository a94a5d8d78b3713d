"""Names of items: from relative paths, safe as file names, free of patient names and of DICOM identifiers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from pipelines.task import Item

__all__ = ["file_name", "series_name", "short_hash", "unique_items"]

_LONGEST = 120
_UID = re.compile(r"\d+(?:\.\d+){4,}")
_SUFFIX = re.compile(
    r"\.(nii(\.gz)?|(hdr|img)(\.gz)?|nrrd|nhdr|mha|mhd|png|jpe?g|tiff?|bmp|gif|webp|dcm|dicom|dic|ima)$", re.IGNORECASE
)
_PRIVATE = "subject"


def short_hash(*parts: str) -> str:
    """Six hexadecimal digits of the parts."""
    return hashlib.sha256("\x1f".join(parts).encode(errors="surrogateescape")).hexdigest()[:6]


def file_name(relative: PurePath) -> str:
    """The name of an item of one file: its folders and its name without the ending."""
    return _safe("_".join((*relative.parent.parts, _SUFFIX.sub("", relative.name) or relative.name)))


def series_name(relative: PurePath, *, is_folder: bool, series_number: str, key: str, names: Iterable[str]) -> str:
    """The name of an item of DICOM files.

    Args:
        relative: The folder of the series, or its only file.
        is_folder: Which of the two it is.
        series_number: From the header; may be empty.
        key: What identifies the series; only its hash is used.
        names: Patient name and identifier in parts; a folder or file name that holds one of them is not used.
    """
    told = [part.casefold() for part in names if len(part) >= 3]
    parts, hidden = [], False
    for part in relative.parts:
        if any(name in part.casefold() for name in told):
            part, hidden = _PRIVATE, True
        elif _UID.search(part):
            part, hidden = _UID.sub("", part).strip("._- "), True
        parts.append(part if is_folder else _SUFFIX.sub("", part))
    base = "_".join(part for part in parts if part) or "series"
    if is_folder:
        number = f"-s{series_number}" if series_number.isdigit() else ""
        return _safe(f"{base}{number}-{short_hash(key)}")
    return _safe(f"{base}-{short_hash(key)}" if hidden else base)


def unique_items(items: Sequence[Item]) -> list[Item]:
    """The items with unique names (also where case is ignored): those that clash are told apart by where they lie."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.item_id.casefold()] = counts.get(item.item_id.casefold(), 0) + 1
    taken: set[str] = set()
    result = []
    for item in items:
        name = item.item_id
        if counts[name.casefold()] > 1:
            where = sorted(str(path) for path in item.paths)
            name = f"{name}-{short_hash(*where, *sorted(f'{key}={value}' for key, value in item.detail.items()))}"
        number, candidate = 2, name
        while candidate.casefold() in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.add(candidate.casefold())
        result.append(item if candidate == item.item_id else replace(item, item_id=candidate))
    return result


def _safe(name: str) -> str:
    text = unicodedata.normalize("NFC", name)
    kept = "".join(
        letter if letter.isalnum() or letter in "._-" or unicodedata.category(letter).startswith("M") else "_"
        for letter in text
    )
    kept = kept.strip("._- ") or "item"
    if len(kept.encode()) > _LONGEST:
        kept = f"{kept.encode()[: _LONGEST - 7].decode(errors='ignore')}-{short_hash(name)}"
    return kept
