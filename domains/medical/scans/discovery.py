"""Finding what can be predicted in files, folders and globs.

Files are told by their names, DICOM by its content; each stack of DICOM slices is one item. Whatever looks like an
input and cannot be one is an item with a `problem`; label maps, notes, tables and our own results in a folder are left
out.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from domains.medical.scans.dicom_headers import DicomHeader, looks_like_dicom, read_header
from domains.medical.scans.dicom_stacks import Stack, find_stacks
from domains.medical.scans.item_names import file_name, series_name, short_hash, unique_items
from domains.medical.scans.itk import is_itk_name
from domains.medical.scans.nifti import is_nifti_name
from domains.medical.scans.not_inputs import is_own_result, is_result_folder, label_files, label_folders
from domains.medical.scans.outputs import OUTPUT_MARK
from domains.medical.scans.pictures import is_picture_name
from pipelines.task import Item

__all__ = ["discover"]

_log = logging.getLogger(__name__)
_DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_OTHER_SCANS = (".mgz", ".mgh", ".mnc", ".gipl", ".gipl.gz", ".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip", ".dcm.gz")


@dataclass(frozen=True)
class _File:
    path: Path
    relative: PurePath
    named: bool
    """Whether the user named the file itself; then it is never left out."""


def discover(inputs: Sequence[Path], *, pictures: bool = True) -> list[Item]:
    """Lists what can be predicted, in a fixed order.

    Args:
        inputs: Files, folders (searched with all their folders) and globs (`**` goes into folders).
        pictures: Whether PNG, JPEG and the like in folders are inputs; those that are named always are.

    Returns:
        One item for each image file and each stack of DICOM slices. `kind` is `nifti`, `itk`, `picture` or `dicom`;
        `detail` holds the modality and, where one series is several stacks, the `phase`.
    """
    items: list[Item] = []
    files: list[_File] = []
    for given in inputs:
        for path, is_glob in _expand(given):
            if path.is_dir():
                files.extend(_walk(path, items))
            elif path.exists() or path.is_symlink():
                files.append(_File(path, PurePath(path.name), named=not is_glob))
            else:
                reason = "no file matches" if _is_glob(str(given)) else "file not found"
                items.append(Item(file_name(PurePath(path.name)), (path,), problem=reason))
    headers: list[tuple[_File, DicomHeader]] = []
    for file in _once(files):
        kind = _kind(file, pictures=pictures)
        if kind == "dicom":
            headers.append((file, read_header(file.path)))
        elif kind in ("nifti", "itk", "picture"):
            items.append(Item(file_name(file.relative), (file.path,), kind))
        elif kind:
            items.append(Item(file_name(file.relative), (file.path,), problem=kind))
        else:
            _log.debug("not an input: %s", file.path)
    items.extend(_dicom_items(headers))
    return unique_items(sorted(items, key=lambda item: (item.item_id, str(item.paths), sorted(item.detail.items()))))


def _expand(given: Path) -> list[tuple[Path, bool]]:
    text = str(given)
    if os.path.lexists(given) or not _is_glob(text):
        return [(Path(given), False)]
    found = sorted(Path(name) for name in glob.glob(os.path.expanduser(text), recursive=True))
    return [(path, True) for path in found] or [(Path(given), False)]


def _is_glob(text: str) -> bool:
    return glob.has_magic(text)


def _walk(root: Path, items: list[Item]) -> Iterator[_File]:
    def unreadable(error: OSError) -> None:
        folder = Path(error.filename)
        name = file_name(PurePath(folder.name or "folder"))
        items.append(Item(name, (folder,), problem=f"folder cannot be read: {error.strerror}"))

    seen: set[tuple[int, int]] = set()
    for current, folders, names in os.walk(root, onerror=unreadable, followlinks=True):
        here = Path(current)
        state = here.stat()
        # A link may lead back up.
        if (state.st_dev, state.st_ino) in seen or (here != root and is_result_folder(names, folders)):
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        left_out = label_folders(folders)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        visible = sorted(name for name in names if not name.startswith("."))
        labels = label_files(visible, folders)
        for name in visible:
            if name in labels:
                _log.debug("a label map, not an input: %s", here / name)
            else:
                yield _File(here / name, (here / name).relative_to(root), named=False)


def _once(files: list[_File]) -> Iterator[_File]:
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file.path)
        if real not in seen:
            seen.add(real)
            yield file


def _kind(file: _File, *, pictures: bool) -> str:
    """A kind of reader, a sentence that says what is wrong, or nothing for what is no input."""
    name = file.path.name.lower()
    if not file.named and is_own_result(file.path):
        return ""
    if is_nifti_name(name):
        return "" if _is_second_of_pair(file.path) else "nifti"
    if is_itk_name(name):
        return "itk"
    if is_picture_name(name):
        return "picture" if pictures or file.named else ""
    if looks_like_dicom(file.path):
        return "dicom"
    if name.endswith(_DICOM_SUFFIXES):
        return _why_not_dicom(file.path)
    if name.endswith(_OTHER_SCANS):
        return f"{''.join(file.path.suffixes[-2:])} is not a format that can be read; convert it to NIfTI"
    return "not a format that can be read" if file.named else ""


def _is_second_of_pair(path: Path) -> bool:
    name = path.name
    for data, header in ((".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr")):
        if name.lower().endswith(data):
            stem = name[: -len(data)]
            if any((path.parent / f"{stem}{suffix}").exists() for suffix in (header, header.upper())):
                return True
    return False


def _why_not_dicom(path: Path) -> str:
    try:
        return "empty file" if path.stat().st_size == 0 else "not a DICOM file, whatever its name says"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"


def _dicom_items(found: list[tuple[_File, DicomHeader]]) -> list[Item]:
    place = {header.path: file for file, header in found}
    series: dict[str, list[DicomHeader]] = defaultdict(list)
    for file, header in found:
        if header.is_directory or (header.manufacturer == OUTPUT_MARK and header.problem and not file.named):
            _log.debug("not an input: %s", header.path)
        else:
            series[header.series_uid].append(header)
    return [
        _dicom_item(stack, place)
        for uid, headers in series.items()
        for part in _by_folder(uid, headers)
        for stack in find_stacks(part)
    ]


def _by_folder(uid: str, headers: list[DicomHeader]) -> list[list[DicomHeader]]:
    """One series may be spread over folders; but folders with the same images, or without identifiers, are copies."""
    instances = [header.instance_uid for header in headers]
    if uid and all(instances) and len(set(instances)) == len(instances):
        return [headers]
    folders: dict[Path, list[DicomHeader]] = defaultdict(list)
    for header in headers:
        folders[header.path.parent].append(header)
    return list(folders.values())


def _dicom_item(stack: Stack, place: dict[Path, _File]) -> Item:
    paths = stack.paths
    header, first = stack.header, place[paths[0]]
    directions = stack.frames[0].directions if stack.frames else None
    key = "|".join(
        (header.series_uid, stack.phase, header.class_uid, f"{header.rows}×{header.columns}", _rounded(directions))
    )
    folder = len(paths) > 1
    relative = first.relative
    if folder:
        # Files that lie directly in an input are named after it.
        relative = relative.parent if relative.parent.parts else PurePath(first.path.absolute().parent.name or "series")
    name = series_name(relative, is_folder=folder, series_number=header.series_number, key=key, names=header.names)
    if stack.phase and not folder:
        name = f"{name}-{short_hash(key)}"
    detail = {"modality": header.modality} if header.modality else {}
    if stack.phase:
        detail["phase"] = stack.phase
    return Item(name, paths, "dicom", detail, stack.problem)


def _rounded(directions: tuple[float, ...] | None) -> str:
    return ",".join(f"{value + 0.0:.1f}" for value in directions or ())
