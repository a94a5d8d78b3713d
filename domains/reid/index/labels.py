"""Who is on an image and which camera took it: from the image's path, or from a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from domains.reid.index.embedding_files import StoredEmbeddings
from domains.reid.index.embedding_images import LabelledImage
from pipelines.errors import ConfigurationError, DataError

__all__ = ["add_labels", "labelled_images"]


def labelled_images(
    root: Path, *, pattern: str | None = None, identity: str | None = None, table: Path | None = None
) -> tuple[list[LabelledImage], dict[str, str]]:
    """The images that a pattern or a table names, as `data` of a workflow does, and what it leaves out and why.

    Args:
        root: Folder of the images.
        pattern: Where they are below it, such as `{identity}/{camera}_*.png`.
        identity: What the identity is made of, where it is not one placeholder: `{type}_{number}`.
        table: CSV with `path, identity` and, where known, `camera, view`; paths are relative to `root`.

    Raises:
        ConfigurationError: Pattern and table are both given, or the pattern or the identity is none.
        DataError: No image is there.
    """
    from pydantic import ValidationError

    from domains.reid.data.folders import read_identity_folders
    from domains.reid.data.settings import IdentityFolders, IdentityTable
    from domains.reid.data.table import read_identity_table

    if pattern is not None and table is not None:
        raise ConfigurationError("both a pattern and a table were given; labels come from one of them")
    try:
        if table is not None:
            records = read_identity_table(IdentityTable(file=table, root=root))
        else:
            settings = IdentityFolders(root=root, pattern=pattern or "{identity}/*", identity=identity)
            records = read_identity_folders(settings)
    except ValidationError as error:
        told = "; ".join(problem["msg"] for problem in error.errors())
        raise ConfigurationError(f"--pattern {pattern!r}: {told}") from error
    images = [
        LabelledImage(record.path, record.name, record.identity, record.camera, record.view) for record in records.used
    ]
    return images, dict(records.skipped)


def add_labels(stored: StoredEmbeddings, images: Sequence[LabelledImage], root: Path) -> StoredEmbeddings:
    """Embeddings with the labels of their images, which are found by their place below `root`.

    Raises:
        DataError: None of the embeddings belongs to any of the images.
    """
    places = {Path(os.path.relpath(image.path, root)).as_posix(): image for image in images}
    table = stored.table.copy()
    found = [places.get(Path(source).as_posix()) for source in table["source"]]
    if not any(found):
        raise DataError(
            f"none of the {len(stored)} embeddings belongs to any of the {len(images)} images in {root}; the first "
            f"embedding is of {table['source'].iloc[0]!r}, the first image is {next(iter(places), '')!r}",
            hint="Name the folder that was predicted: --images FOLDER.",
        )
    table["identity"] = [image.identity if image else "" for image in found]
    table["camera"] = [image.camera if image else "" for image in found]
    return StoredEmbeddings(stored.embeddings, table, stored.model_digest)
