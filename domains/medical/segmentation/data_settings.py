"""The `data:` section of a segmentation workflow: one of the readers, or a synthetic phantom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from domains.medical.cases import DecathlonData
from pipelines.casefolders import FolderData
from pipelines.casetables import TableData
from pipelines.config.section import Section

__all__ = ["DataSettings", "PhantomData"]


class PhantomData(Section):
    """A built-in synthetic phantom: it shows that everything runs, and says nothing about anatomy."""

    format: Literal["phantom"] = "phantom"
    """Synthetic volumes with two nested structures."""
    cases: int = Field(default=40, ge=2, le=10_000)
    """Number of volumes."""
    size: Annotated[tuple[Annotated[int, Field(ge=8, le=512)], ...], Field(min_length=3, max_length=3)] = (36, 48, 32)
    """Typical extent in voxels; each volume's differs by up to an eighth."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the volumes."""
    folder: str = "phantom-volumes"
    """Folder that the volumes are written to, below `output`; volumes that are there already are kept."""


DataSettings = Annotated[DecathlonData | FolderData | TableData | PhantomData, Field(discriminator="format")]
"""Where the cases come from, by `format`."""
