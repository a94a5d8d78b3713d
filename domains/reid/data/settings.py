"""The `data:` section of re-identification and fine-grained workflows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipelines.config.paths import FilePath
from pipelines.config.section import Section

__all__ = [
    "BenchmarkData",
    "CubData",
    "DataSettings",
    "IdentityFolders",
    "IdentityTable",
    "VehicleIdData",
]

_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def _unquoted(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError('put quotation marks around a pattern that starts with a brace: "{identity}/{camera}_*.jpg"')
    return value


def _usable(pattern: str) -> str:
    names = _PLACEHOLDER.findall(pattern)
    wrong = [name for name in names if not name.isidentifier()]
    if wrong:
        raise ValueError(
            f"{pattern!r} has the placeholder {{{wrong[0]}}}; use names such as {{identity}} or {{camera}}"
        )
    if not names:
        raise ValueError(f"{pattern!r} has no placeholder; write {{identity}} where the identity stands")
    return pattern


NamePattern = Annotated[str, BeforeValidator(_unquoted), AfterValidator(_usable)]
"""A path below `root`, with `{identity}` and if need be `{camera}`, `{view}`, `{track}`, other names, and `*`."""


class BenchmarkData(Section):
    """A benchmark in the folders that its authors hand out, with its own training, query and gallery parts."""

    format: Literal["market1501", "dukemtmc", "msmt17", "veri776"]
    """`market1501` (Market-1501), `dukemtmc` (DukeMTMC-reID), `msmt17` (MSMT17, V1 or V2) or `veri776` (VeRi-776)."""
    root: FilePath
    """Folder with `bounding_box_train` and its like."""


class VehicleIdData(Section):
    """VehicleID: lists of training and test vehicles, no cameras; one picture of each test vehicle is the gallery."""

    format: Literal["vehicleid"] = "vehicleid"
    """VehicleID."""
    root: FilePath
    """Folder with `image` and `train_test_split`."""
    test_list: Literal["800", "1600", "2400"] = "800"
    """Which test list: how many vehicles it has."""
    gallery_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the draw of one gallery picture for each test vehicle."""


class CubData(Section):
    """Caltech-UCSD Birds (CUB-200-2011)."""

    format: Literal["cub"] = "cub"
    """CUB-200-2011."""
    root: FilePath
    """Folder with `images.txt`, `image_class_labels.txt` and `train_test_split.txt`."""
    parts: Literal["images", "classes"] = "images"
    """`images`: the authors' division of pictures, for classification. `classes`: the first half of the classes to
    learn from and the second half to be found, for retrieval."""


class IdentityFolders(Section):
    """Pictures whose path tells the identity: a folder for each, or a pattern of names."""

    format: Literal["identities"] = "identities"
    """Paths that tell the identity."""
    root: FilePath
    """Folder that the pattern is below."""
    pattern: NamePattern = "{identity}/*"
    """Where the pictures are, for example `{identity}/{camera}_*.png`. Names beside `identity`, `camera`, `view` and
    `track` become attributes."""
    identity: str | None = None
    """What the identity is made of, where it is not one placeholder: `{type}_{number}`."""
    numbered: int | None = Field(default=None, ge=1)
    """For sets that tell the class by a running number alone: with 80, `{number}` 1 to 80 are class 0, and so on."""


class IdentityTable(Section):
    """A table with the columns `path, identity` and, where known, `camera, split, view, track, role`."""

    format: Literal["csv"] = "csv"
    """A table that you write."""
    file: FilePath
    """The table (`.csv`, `.tsv` or `.parquet`), with one header row; others are attributes. `split` is `train`,
    `validation`, `test`, or `query` and `gallery` (both of the test part); `role` says `query` or `gallery` in any
    part."""
    root: FilePath | None = None
    """Folder that paths in the table are relative to; empty: the folder of the table."""


DataSettings = Annotated[
    BenchmarkData | VehicleIdData | CubData | IdentityFolders | IdentityTable, Field(discriminator="format")
]
"""Where the pictures come from, by `format`."""
