"""Images to embeddings, through the predictor of a model: what `index` and `search` do with pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.index.embedding_files import StoredEmbeddings
from domains.reid.judging.embeddings import check_embeddings
from pipelines.errors import CaseError, DataError, PulvinarError

if TYPE_CHECKING:
    from pipelines.task import Item, Predictor

__all__ = ["FailedImage", "LabelledImage", "embed_images", "embed_with"]


@dataclass(frozen=True)
class LabelledImage:
    """An image, or a folder of images, and what is known of it.

    Attributes:
        path: The file or folder.
        name: What it is called in results; empty for its place below `root`.
        identity: Who or what is on it; empty where not known.
        camera: Which camera took it; empty where not known.
        view: From which side; empty where not known.
    """

    path: Path
    name: str = ""
    identity: str = ""
    camera: str = ""
    view: str = ""


@dataclass(frozen=True)
class FailedImage:
    """An image without an embedding, and why."""

    source: str
    reason: str


def embed_images(
    model: Path,
    images: Sequence[LabelledImage],
    *,
    root: Path,
    labels: Sequence[LabelledImage] = (),
    device: str = "auto",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[StoredEmbeddings, list[FailedImage]]:
    """Embeds images with the model of a folder.

    Args:
        model: Model folder or run folder.
        images: Files and folders.
        root: What places are told relative to.
        labels: What is known of images that lie in these folders; of those that `images` does not name, nothing is
            embedded.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        report: Told how many of how many are done.

    Raises:
        ModelFolderError: The model cannot be used.
        DataError: It gives no embeddings, or none of the images could be embedded.
    """
    from pipelines.inference.source import ModelSource

    source = ModelSource.of(model, device=device, changes={})
    predictor = source.open(index=0, workers=1).predictor
    return embed_with(predictor, images, root=root, labels=labels, model_digest=source.model_digest, report=report)


def embed_with(
    predictor: Predictor[Any, Any],
    images: Sequence[LabelledImage],
    *,
    root: Path,
    model_digest: str,
    labels: Sequence[LabelledImage] = (),
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[StoredEmbeddings, list[FailedImage]]:
    """The same with a predictor whose results have an `embedding` (C,)."""
    import pandas as pd

    known = {os.path.abspath(image.path): image for image in (*images, *labels)}
    items = predictor.discover([image.path for image in images])
    rows, embeddings, failed = [], [], list[FailedImage]()
    for done, item in enumerate(items):
        source = os.path.relpath(item.paths[0], root) if item.paths else item.item_id
        image = known.get(os.path.abspath(item.paths[0])) if item.paths else None
        image = image or LabelledImage(Path(source))
        try:
            embeddings.append(_embed(predictor, item, image))
        except CaseError as error:
            failed.append(FailedImage(source, error.reason))
        else:
            rows.append((image.name or Path(source).as_posix(), source, image.identity, image.camera))
        report(done + 1, len(items))
    if not rows:
        first = f"; {failed[0].source}: {failed[0].reason}" if failed else ""
        raise DataError(
            f"none of {len(items)} images could be embedded{first}", hint="Name images, or folders that hold some."
        )
    table = pd.DataFrame(rows, columns=["item", "source", "identity", "camera"], dtype=str)
    if table["item"].duplicated().any():
        twice = table["item"][table["item"].duplicated()].iloc[0]
        raise DataError(f"{twice!r} was named twice", hint="Name each image, or the folder that holds it, once.")
    return StoredEmbeddings(np.stack(embeddings), table, model_digest), failed


def _embed(predictor: Predictor[Any, Any], item: Item, image: LabelledImage) -> NDArray[np.float32]:
    if item.problem:
        raise CaseError(item.item_id, item.problem)
    told = {name: value for name, value in (("camera", image.camera), ("view", image.view)) if value}
    item = dataclasses.replace(item, detail={**item.detail, **told})
    try:
        embedding = getattr(predictor.infer(predictor.read(item)), "embedding", None)
    except CaseError:
        raise
    except PulvinarError as error:
        raise CaseError(item.item_id, error.message) from error
    if embedding is None:
        raise DataError("this model gives no embeddings", hint="Use a model of the task reid/retrieval.")
    if np.ndim(embedding) != 1:
        raise DataError(
            "this model gives an embedding for each attribute; an index holds one for each image",
            hint="Use a model of the task reid/retrieval.",
        )
    row = check_embeddings(np.asarray(embedding)[None], item.item_id, copies_allowed=True)
    return np.asarray(row[0], dtype=np.float32)
