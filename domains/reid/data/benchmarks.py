"""Benchmarks in the folders that their authors hand out.

| set | file name | identity | camera |
|---|---|---|---|
| Market-1501 | `0002_c1s1_000451_03.jpg` | 0002; -1 is junk, 0000 a distractor | 1 |
| DukeMTMC-reID | `0002_c1_f0044158.jpg` | 0002 | 1 |
| MSMT17 | `0000/0000_000_01_0303morning_0015_0.jpg`, in lists | training and test number from 0 each | 01 |
| VeRi-776 | `0001_c001_00016450_0.jpg` | 0001 | 001 |
| VehicleID | number, in lists with the vehicle | the vehicle's number | none |
| CUB-200-2011 | number and path, in lists with the class | the class | none |
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from domains.reid.data.files import files_below
from domains.reid.data.lists import list_lines, veri_attributes
from domains.reid.data.records import ImageRecord, Records, record_name
from domains.reid.data.settings import BenchmarkData, CubData, VehicleIdData
from pipelines.errors import DataError

__all__ = ["read_benchmark", "read_cub", "read_vehicleid"]

_NAMES = {
    "market1501": re.compile(r"(?P<identity>-?\d+)_c(?P<camera>\d+)s(?P<sequence>\d+)_\d+_\d+"),
    "dukemtmc": re.compile(r"(?P<identity>-?\d+)_c(?P<camera>\d+)_f\d+"),
    "veri776": re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)_\d+(?:_\d+)?"),
}
_FOLDERS = {
    "market1501": ("bounding_box_train", "query", "bounding_box_test"),
    "dukemtmc": ("bounding_box_train", "query", "bounding_box_test"),
    "veri776": ("image_train", "image_query", "image_test"),
}
_LABEL_FILES = {"veri776": ("train_label.xml", "test_label.xml")}
_DISTRACTOR = "0000"
_JUNK = "-1"
_MSMT_LISTS = {
    "list_train.txt": ("train", ""),
    "list_val.txt": ("train", ""),
    "list_query.txt": ("test", "query"),
    "list_gallery.txt": ("test", "gallery"),
}


def read_benchmark(settings: BenchmarkData) -> Records:
    """Reads Market-1501, DukeMTMC-reID, MSMT17 or VeRi-776.

    Junk pictures of Market-1501 (identity -1) are skipped: the benchmark's evaluation takes no notice of them.
    Distractors (0000) are part of the gallery and nobody's match. VeRi-776 tells colour and type of each vehicle in
    `train_label.xml` and `test_label.xml`; where they are there, these are attributes.

    Raises:
        DataError: A folder or list of the benchmark is missing, a list cannot be read, or no picture can be used.
    """
    if settings.format == "msmt17":
        return _read_msmt17(settings.root)
    records = Records(settings.root)
    attributes: dict[str, Mapping[str, str]] = {}
    for name in _LABEL_FILES.get(settings.format, ()):
        if (settings.root / name).is_file():
            attributes |= veri_attributes(settings.root / name)
    for folder, (part, role) in zip(
        _FOLDERS[settings.format], (("train", ""), ("test", "query"), ("test", "gallery")), strict=True
    ):
        given = _needed(settings.root / folder, settings.format)
        # What somebody put into a folder of its own below is not what the authors handed out.
        for path in records.pictures(path for path in files_below(given) if path.parent == given):
            matched = _NAMES[settings.format].match(path.stem)
            if matched is None:
                records.skip(path, "the name is not one of this benchmark")
            elif matched["identity"] == _JUNK:
                records.skip(path, "junk picture, which the benchmark does not judge", by_rule=True)
            elif matched["identity"] == _DISTRACTOR and settings.format == "market1501" and role != "gallery":
                records.skip(path, "a distractor outside the gallery")
            else:
                nobody = settings.format == "market1501" and matched["identity"] == _DISTRACTOR
                records.used.append(
                    ImageRecord(
                        name=record_name(settings.root, path),
                        path=path,
                        identity="" if nobody else matched["identity"],
                        camera=matched["camera"].lstrip("0") or "0",
                        part=part,
                        role=role,
                        attributes=attributes.get(path.name, {}),
                    )
                )
    return _checked(records, settings.format)


def _read_msmt17(root: Path) -> Records:
    """MSMT17 numbers the identities of training and test from 0 each, so they are told apart by a prefix."""
    records = Records(root)
    for name, (part, role) in _MSMT_LISTS.items():
        folders = [root / folder for folder in (part, f"mask_{part}_v2") if (root / folder).is_dir()]
        if not folders:
            raise DataError(f"msmt17: no folder {part!r} in {root.name!r}", hint="Check `data.root`.")
        for number, words in list_lines(_needed(root / name, "msmt17"), 2):
            path = folders[0] / words[0]
            camera = path.stem.split("_")
            if not path.is_file():
                records.skip(path, f"listed in {name}, but there is no such file")
            elif len(camera) < 3 or not camera[2].isdecimal():
                records.skip(path, f"line {number} of {name} names no camera")
            else:
                records.used.append(
                    ImageRecord(
                        name=record_name(root, path),
                        path=path,
                        identity=f"{part}-{words[1]}",
                        camera=camera[2].lstrip("0") or "0",
                        part=part,
                        role=role,
                    )
                )
    return _checked(records, "msmt17")


def read_vehicleid(settings: VehicleIdData) -> Records:
    """Reads VehicleID; of each test vehicle one picture, drawn by the seed, is the gallery and the others ask for it.

    Raises:
        DataError: A list is missing, or no picture can be used.
    """
    root, records = settings.root, Records(settings.root)
    lists = root / "train_test_split"
    for name, part in (("train_list.txt", "train"), (f"test_list_{settings.test_list}.txt", "test")):
        pictures: dict[str, list[Path]] = defaultdict(list)
        for _, words in list_lines(_needed(lists / name, "vehicleid"), 2):
            path = root / "image" / f"{words[0]}.jpg"
            if path.is_file():
                pictures[words[1]].append(path)
            else:
                records.skip(path, f"listed in {name}, but there is no such file")
        for vehicle, paths in sorted(pictures.items()):
            ordered = sorted(paths)
            drawn = np.random.default_rng((settings.gallery_seed, *vehicle.encode())).integers(len(ordered))
            for place, path in enumerate(ordered):
                role = "" if part == "train" else "gallery" if place == drawn else "query"
                records.used.append(ImageRecord(record_name(root, path), path, vehicle, part=part, role=role))
    return _checked(records, "vehicleid")


def read_cub(settings: CubData) -> Records:
    """Reads CUB-200-2011.

    Raises:
        DataError: A list is missing, or no picture can be used.
    """
    root, records = settings.root, Records(settings.root)
    tables = {}
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
        tables[name] = {words[0]: words[1] for _, words in list_lines(_needed(root / name, "cub"), 2)}
    classes = (
        dict(words for _, words in list_lines(root / "classes.txt", 2)) if (root / "classes.txt").is_file() else {}
    )
    numbers = sorted(set(tables["image_class_labels.txt"].values()), key=lambda text: (len(text), text))
    seen = set(numbers[: (len(numbers) + 1) // 2])
    for number, written in tables["images.txt"].items():
        path = root / "images" / written
        label = tables["image_class_labels.txt"].get(number)
        given = tables["train_test_split.txt"].get(number)
        if not path.is_file():
            records.skip(path, "listed in images.txt, but there is no such file")
        elif label is None or given is None:
            records.skip(path, "listed in images.txt, but without a class or a part")
        else:
            training = label in seen if settings.parts == "classes" else given == "1"
            records.used.append(
                ImageRecord(
                    record_name(root / "images", path),
                    path,
                    classes.get(label, label),
                    part="train" if training else "test",
                )
            )
    return _checked(records, "cub")


def _needed(path: Path, name: str) -> Path:
    if not path.exists():
        there = sorted(item.name for item in path.parent.iterdir())[:6] if path.parent.is_dir() else []
        raise DataError(
            f"{name}: {path.name!r} is not in {path.parent.name!r}; there is: {', '.join(there) or 'nothing'}",
            hint="Check `data.root`: it is the folder as it was handed out.",
        )
    return path


def _checked(records: Records, name: str) -> Records:
    if not records.used:
        reasons = "; ".join(sorted(set(records.skipped.values()))) or "there are none"
        raise DataError(f"{name}: none of {records.found} pictures can be used: {reasons}")
    records.used.sort(key=lambda record: record.name)
    return records
