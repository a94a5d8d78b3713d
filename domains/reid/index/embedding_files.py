"""Embeddings on disk: one of an image, and a table of many.

    OUT/ITEM_ID/*.safetensors              `embedding` (C,) float32: what prediction writes for one image
    OUT/joined/embeddings.safetensors      `embeddings` (N, C) float32, with the digest of the model in its metadata
    OUT/joined/embeddings.parquet          one row for each: item, source, and identity and camera where known

Embeddings of people are biometric data: whoever holds them can recognise the person again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.judging.embeddings import check_embeddings
from pipelines.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.task import FinishedItem

__all__ = [
    "EMBEDDINGS",
    "TABLE",
    "StoredEmbeddings",
    "holds_embeddings",
    "join_embeddings",
    "read_embedding",
    "read_embeddings",
    "write_embeddings",
]

EMBEDDINGS = "embeddings.safetensors"
TABLE = "embeddings.parquet"
_JOINED = "joined"


@dataclass(frozen=True, eq=False)
class StoredEmbeddings:
    """Embeddings with what is known of their images.

    Attributes:
        embeddings: Float `(N, C)`.
        table: `N` rows; text columns `item`, `source`, `identity`, `camera`, empty where not known.
        model_digest: Digest of the model that made them; empty where not known.
    """

    embeddings: NDArray[Any]
    table: pd.DataFrame
    model_digest: str = ""

    def __len__(self) -> int:
        return len(self.embeddings)


def read_embedding(folder: Path) -> NDArray[np.float32]:
    """The embedding `(C,)` in the result of one image. Raises `DataError`."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise DataError(f"{folder} holds {len(files)} files of embeddings; the result of one image has one")
    return np.asarray(_load(files[0], "embedding", axes=1)[0], dtype=np.float32)


def join_embeddings(results: Sequence[FinishedItem], folder: Path, model_digest: str) -> None:
    """Puts the embeddings of single images together into tables in `folder`, in the order of their names.

    Raises:
        DataError: An embedding cannot be read or has other channels than the first.
    """
    import pandas as pd

    ordered = sorted(results, key=lambda result: result.item_id)
    rows = [read_embedding(result.folder) for result in ordered]
    for result, row in zip(ordered, rows, strict=True):
        if row.shape != rows[0].shape:
            raise DataError(f"{result.item_id} has {len(row)} channels, {ordered[0].item_id} has {len(rows[0])}")
    if not rows:
        return
    table = pd.DataFrame(
        {"item": [result.item_id for result in ordered], "source": [result.source for result in ordered]}
    )
    write_embeddings(folder, StoredEmbeddings(np.stack(rows), table, model_digest))


def write_embeddings(folder: Path, stored: StoredEmbeddings) -> None:
    """Writes the two files of a table of embeddings into a folder that is there."""
    from safetensors.numpy import save_file

    metadata = {"model_digest": stored.model_digest, "items": json.dumps(len(stored))}
    save_file({"embeddings": np.ascontiguousarray(stored.embeddings, np.float32)}, folder / EMBEDDINGS, metadata)
    stored.table.to_parquet(folder / TABLE, index=False)


def holds_embeddings(path: Path) -> bool:
    """Whether `path` is a folder of a table of embeddings, or the output folder of a prediction that holds one."""
    return any((folder / EMBEDDINGS).is_file() for folder in (path, path / _JOINED))


def read_embeddings(path: Path) -> StoredEmbeddings:
    """Reads a table of embeddings from its folder, or from the output folder of a prediction.

    Raises:
        DataError: A file is missing or damaged, the two do not belong together, or the embeddings cannot be used.
    """
    import pandas as pd

    folder = next((one for one in (path, path / _JOINED) if (one / EMBEDDINGS).is_file()), None)
    if folder is None:
        raise DataError(
            f"{path} holds no {EMBEDDINGS}", hint="Make one: pulvinar predict MODEL IMAGES --out OUT, then name OUT."
        )
    embeddings, metadata = _load(folder / EMBEDDINGS, "embeddings", axes=2)
    try:
        table = pd.read_parquet(folder / TABLE)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / TABLE} cannot be read: {error}") from error
    if "item" not in table.columns or len(table) != len(embeddings):
        raise DataError(
            f"{folder}: {len(embeddings)} embeddings and {len(table)} rows with the columns "
            f"{', '.join(map(str, table.columns))}; they do not belong together",
            hint="Each embedding needs a row, with its image's name in the column `item`.",
        )
    for column in ("source", "identity", "camera"):
        if column not in table.columns:
            table[column] = ""
    columns = ["item", "source", "identity", "camera"]
    # Whole numbers among missing ones were read as fractions: identity 7 is not "7.0".
    table[columns] = table[columns].convert_dtypes().astype("string").fillna("").astype(object)
    if table["item"].duplicated().any():
        raise DataError(f"{folder / TABLE}: {table['item'][table['item'].duplicated()].iloc[0]!r} stands there twice")
    checked = check_embeddings(embeddings, str(path), copies_allowed=True)
    return StoredEmbeddings(checked, table, metadata.get("model_digest", ""))


def _load(path: Path, name: str, *, axes: int) -> tuple[NDArray[Any], Mapping[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            values, metadata = file.get_tensor(name), file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as {name!r}: {error}") from error
    if values.ndim != axes:
        raise DataError(f"{path}: {name!r} has shape {values.shape}")
    return values, metadata
