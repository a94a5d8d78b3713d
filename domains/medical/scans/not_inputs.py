"""What lies beside scans and is no input: label maps, and results of ours.

A label map cannot be told from a scan by its content for sure, so a file in a folder is taken for one only where its
name says so *and* the scan it belongs to lies beside it, or where its header has the label intent.
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from domains.medical.scans.nifti import is_nifti_name
from domains.medical.scans.outputs import OUTPUT_MARK

__all__ = ["is_own_result", "is_result_folder", "label_files", "label_folders"]

_LABEL_NAME = re.compile(
    r"(?P<base>.+)[_\-. ](?:d?seg|segmentation|totalseg|labels?|labelmap|masks?|gt|ground_?truth|manual\d?|prediction)",
    re.IGNORECASE,
)
_LABEL_FOLDER = re.compile(r"labels?(Tr|Ts|Val)?|masks?|segmentations?|annotations?|(1st|2nd)_manual", re.IGNORECASE)
_IMAGE_FOLDER = re.compile(r"(images?|imgs?|scans?)(Tr|Ts|Val)?", re.IGNORECASE)
_LABEL_INTENT = 1002


def label_folders(folders: Iterable[str]) -> set[str]:
    """Folders of label maps, by name, where a folder of images lies beside them."""
    names = list(folders)
    if not any(_IMAGE_FOLDER.fullmatch(name) for name in names):
        return set()
    return {name for name in names if _LABEL_FOLDER.fullmatch(name)}


def label_files(names: Sequence[str], folders: Sequence[str]) -> set[str]:
    """Files whose name says label map, where the scan or series they belong to lies beside them."""
    stems = {name: name.split(".")[0] if is_nifti_name(name) else Path(name).stem for name in names}
    candidates = {name: match["base"] for name, stem in stems.items() if (match := _LABEL_NAME.fullmatch(stem))}
    images = {stem for name, stem in stems.items() if name not in candidates} | set(folders)
    return {
        name
        for name, base in candidates.items()
        if any(image == base or (image.startswith(base) and image[len(base)] in "_-. ") for image in images)
    }


def is_result_folder(names: Sequence[str], folders: Sequence[str]) -> bool:
    """Whether a folder is the output of an earlier prediction."""
    return ".pulvinar" in folders and "ledger.sqlite" in names


def is_own_result(path: Path) -> bool:
    """Whether a NIfTI file is a label map or a result of ours, or a PNG is a result of ours, by its header."""
    name = path.name.lower()
    if is_nifti_name(name) and ".img" not in name:
        header = _start(path, 348)
        if len(header) < 348:
            return False
        order = "<" if struct.unpack("<i", header[:4])[0] == 348 else ">"
        (intent,) = struct.unpack(f"{order}h", header[68:70])
        return bool(intent == _LABEL_INTENT) or header[328:344].startswith(OUTPUT_MARK.encode())
    if name.endswith(".png"):
        return f"Software\0{OUTPUT_MARK}".encode() in _start(path, 256)
    return False


def _start(path: Path, count: int) -> bytes:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as compressed:
                return compressed.read(count)
        with path.open("rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error):
        return b""
