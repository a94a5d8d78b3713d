"""The index: a gallery of embeddings in one folder, which is written whole, checked when it is read, and deleted whole.

    INDEX/
      index.yaml              what it is: model digest, sizes, threshold, sha256 of each file
      embeddings.safetensors  `embeddings` (N, C) float32 of length 1
      gallery.parquet         one row for each image: item, identity, camera, source
      faiss.index             an approximate index, for galleries of more than 100,000 images, where faiss is installed

Embeddings are biometric data, and the table says who is who: keep an index as you keep the images, and delete it with
them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.index.embedding_files import EMBEDDINGS, StoredEmbeddings
from domains.reid.judging.embeddings import check_embeddings, comparable
from pipelines.errors import ConfigurationError, DataError
from pipelines.folders import staged_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "APPROXIMATE_FROM",
    "FAISS",
    "RECORD",
    "GalleryIndex",
    "check_deletable",
    "delete_index",
    "read_index",
    "write_index",
]

APPROXIMATE_FROM = 100_000
"""Galleries of more images get an approximate index."""

RECORD = "index.yaml"
GALLERY = "gallery.parquet"
FAISS = "faiss.index"
_KIND = "pulvinar re-identification index"
_FORMAT = 1
_FILES = frozenset({RECORD, EMBEDDINGS, GALLERY, FAISS})
_LEFTOVER = re.compile(r"[0-9a-f]{8}\.(part|part\.replaced|deleted)")
"""What stands behind the name of an index in folders that a killed writer or deletion leaves."""
_NOTE = "Embeddings are biometric data. Delete this folder with: pulvinar reid delete"


@dataclass(frozen=True, eq=False)
class GalleryIndex:
    """A gallery that can be searched.

    Attributes:
        folder: Where it lies.
        embeddings: float32 `(N, C)` of length 1.
        table: `N` rows; text columns `item`, `identity`, `camera`, `source`.
        record: What `index.yaml` says.
    """

    folder: Path
    embeddings: NDArray[np.float32]
    table: pd.DataFrame
    record: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def model_digest(self) -> str:
        """Digest of the model that made the embeddings; empty where it is not known."""
        return str(self.record.get("model_digest", ""))

    @property
    def threshold(self) -> float | None:
        """Below this score nobody is recognised; None where none was chosen."""
        chosen = self.record.get("threshold")
        return float(chosen["threshold"]) if isinstance(chosen, Mapping) else None

    def place(self, named: str) -> Path | None:
        """A place that the record tells relative to the index (`model`, `images`); None where it tells none."""
        told = self.record.get(named)
        return Path(os.path.normpath(self.folder / str(told))) if told else None


def write_index(
    folder: Path,
    gallery: StoredEmbeddings,
    *,
    threshold: Mapping[str, Any] | None = None,
    model: Path | None = None,
    images: Path | None = None,
    approximate_from: int = APPROXIMATE_FROM,
) -> GalleryIndex:
    """Writes an index, whole or not at all; one that is there is replaced in one step.

    Args:
        folder: Where; it is not there yet, or is an index.
        gallery: The embeddings and their table.
        threshold: From which score on somebody is recognised, and how it was chosen.
        model: The model folder that made the embeddings; remembered relative to the index.
        images: Folder that `source` in the table is relative to; remembered relative to the index.
        approximate_from: Galleries larger than this get an approximate index where faiss is installed.

    Raises:
        ConfigurationError: `folder` holds something else.
        DataError: The embeddings cannot be searched.
    """
    import yaml
    from safetensors.numpy import save_file

    from domains.reid.index.approximate import build_approximate, faiss_is_installed

    if folder.exists() and not _is_index(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is there and is no index", hint="Name another folder with --out.")
    checked = check_embeddings(gallery.embeddings, "gallery")
    embeddings = np.ascontiguousarray(comparable(checked, "cosine"), dtype=np.float32)
    table = gallery.table[["item", "identity", "camera", "source"]]
    record: dict[str, Any] = {
        "kind": _KIND,
        "format": _FORMAT,
        "note": _NOTE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_digest": gallery.model_digest,
        "images_indexed": len(embeddings),
        "channels": int(embeddings.shape[1]),
        "identities": int(table["identity"][table["identity"] != ""].nunique()),
        "cameras": int(table["camera"][table["camera"] != ""].nunique()),
        "similarity": "cosine",
        "threshold": dict(threshold) if threshold else None,
        "model": _relative(model, folder),
        "images": _relative(images, folder),
        "approximate": None,
    }
    with staged_folder(folder) as staged:
        save_file({"embeddings": embeddings}, staged / EMBEDDINGS)
        table.to_parquet(staged / GALLERY, index=False)
        if len(embeddings) > approximate_from and faiss_is_installed():
            record["approximate"] = build_approximate(embeddings, staged / FAISS)
        record["files"] = {
            path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in sorted(staged.iterdir())
        }
        (staged / RECORD).write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
        # Who is who is nobody else's business: the folder is readable for its owner alone.
        staged.chmod(0o700)
    return GalleryIndex(folder, embeddings, table, record)


def read_index(folder: Path) -> GalleryIndex:
    """Reads an index and checks each of its files against its digest.

    Raises:
        DataError: It is no index, of another version, damaged or incomplete.
    """
    import pandas as pd
    from safetensors.numpy import load_file

    record = _read_record(folder)
    if record.get("format") != _FORMAT:
        raise DataError(f"{folder} is an index of format {record.get('format')}; this version reads {_FORMAT}")
    for name, told in record["files"].items():
        path = folder / Path(name).name
        if not path.is_file() or _sha256(path) != told["sha256"]:
            raise DataError(
                f"{path} is {'not what ' + RECORD + ' was written for' if path.is_file() else 'missing'}",
                hint="The index is damaged; make it again: pulvinar reid index GALLERY --out INDEX",
            )
    embeddings = load_file(folder / EMBEDDINGS)["embeddings"]
    table = pd.read_parquet(folder / GALLERY)
    return GalleryIndex(folder, embeddings, table, record)


def check_deletable(folder: Path) -> int:
    """How many images an index holds that may be deleted; a damaged one may, too.

    Raises:
        DataError: It is no index, is a link, or holds other files.
    """
    record = _read_record(folder)
    if folder.is_symlink():
        raise DataError(f"{folder} is a link", hint="Name the folder that it leads to.")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES or not path.is_file())
    if others:
        raise DataError(
            f"{folder} holds other things than an index: {', '.join(others[:5])}; nothing was deleted",
            hint="Move them elsewhere, then delete the index.",
        )
    return int(record.get("images_indexed", 0))


def delete_index(folder: Path) -> int:
    """Deletes an index whole and returns how many images it held: it vanishes in one step, then its files are removed.

    What a killed `index` or `delete` of this name left beside it goes, too: it holds embeddings as well.

    Raises:
        DataError: It is no index, is a link, or holds other files; nothing is deleted then.
    """
    images = check_deletable(folder)
    real = Path(os.path.realpath(folder))
    doomed = real.with_name(f".{real.name}.{uuid.uuid4().hex[:8]}.deleted")
    real.rename(doomed)
    shutil.rmtree(doomed)
    for leftover in real.parent.iterdir():
        if _LEFTOVER.fullmatch(leftover.name.removeprefix(f".{real.name}.")) and _holds_only_ours(leftover):
            shutil.rmtree(leftover)
    return images


def _holds_only_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and all(path.name in _FILES for path in folder.iterdir())


def _is_index(folder: Path) -> bool:
    try:
        _read_record(folder)
    except DataError:
        return False
    return True


def _read_record(folder: Path) -> dict[str, Any]:
    import yaml

    try:
        record = yaml.safe_load((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{folder} is no index: {RECORD} cannot be read", hint="An index is made by: pulvinar reid index"
        ) from error
    if not isinstance(record, dict) or record.get("kind") != _KIND or not isinstance(record.get("files"), dict):
        raise DataError(f"{folder} is no index: its {RECORD} is of another kind")
    return record


def _relative(path: Path | None, folder: Path) -> str | None:
    return None if path is None else os.path.relpath(os.path.realpath(path), os.path.realpath(folder))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
