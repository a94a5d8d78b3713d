"""Genomic groups: which features go together into one token of CMTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipelines.caseids import some
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.errors import DataError

__all__ = ["AssayGroups", "GroupSettings", "ModuleGroups", "SignatureGroups", "group_features"]


class AssayGroups(Section):
    """One group for each assay: what stands after the last `_` of a column, such as `rnaseq` and `cnv`."""

    by: Literal["assay"] = "assay"
    """How features are grouped."""


class SignatureGroups(Section):
    """Groups of genes that you list, such as the six functional families of MCAT and CMTA."""

    by: Literal["signatures"]
    """How features are grouped."""
    file: FilePath
    """CSV with one column for each group, its genes below its name. A column `GENE_assay` belongs to each group that
    lists GENE, so a feature may be in several; features of no group are not looked at."""


class ModuleGroups(Section):
    """Modules of features that vary together over the patients of the training part (k-means of standardised columns).

    They need no list of genes, and differ from fold to fold.
    """

    by: Literal["modules"]
    """How features are grouped."""
    count: int = Field(default=6, ge=1, le=100)
    """Groups."""


GroupSettings = Annotated[AssayGroups | SignatureGroups | ModuleGroups, Field(discriminator="by")]


def group_features(
    settings: AssayGroups | SignatureGroups | ModuleGroups,
    names: Sequence[str],
    covariates: Sequence[str],
    scaled: NDArray[np.floating],
    *,
    seed: int,
) -> dict[str, tuple[int, ...]]:
    """Group → places of its features among `names`. Covariates are a group of their own.

    Args:
        settings: How.
        names: `F` features, covariates among them.
        covariates: Which of them are covariates.
        scaled: `(N, F)`, the training part after scaling, without missing values.
        seed: Seed of k-means.

    Raises:
        DataError: A file of signatures cannot be used, or no feature is in any group.
    """
    own = [place for place, name in enumerate(names) if name not in set(covariates)]
    groups: Mapping[str, Sequence[int]] = {}
    if own and isinstance(settings, AssayGroups):
        groups = _by_assay(names, own)
    elif own and isinstance(settings, SignatureGroups):
        groups = _by_signature(settings.file, names, own)
    elif own and isinstance(settings, ModuleGroups):
        groups = _by_module(scaled[:, own], own, settings.count, seed)
    named = {name: tuple(places) for name, places in groups.items() if len(places)}
    rest = tuple(place for place, name in enumerate(names) if name in set(covariates))
    return named | ({"covariates": rest} if rest else {})


def _by_assay(names: Sequence[str], own: Sequence[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for place in own:
        groups.setdefault(names[place].rpartition("_")[2], []).append(place)
    return groups


def _by_signature(file: Path, names: Sequence[str], own: Sequence[int]) -> dict[str, list[int]]:
    import pandas as pd

    try:
        listed = pd.read_csv(file, dtype=str)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"signatures {file.name} cannot be read: {told}", hint="Check genomics.groups.file.") from error
    places: dict[str, list[int]] = {}
    for place in own:
        gene, _, assay = names[place].rpartition("_")
        places.setdefault(gene or assay, []).append(place)
    genes = {str(column): list(dict.fromkeys(listed[column].dropna().str.strip())) for column in listed.columns}
    groups = {name: [place for gene in wanted for place in places.get(gene, ())] for name, wanted in genes.items()}
    empty = [name for name, found in groups.items() if not found]
    if empty:
        raise DataError(
            f"signatures {file.name}: no feature of the table is in {some(empty)}",
            hint="Genes are named as in the columns: GENE for GENE_rnaseq.",
        )
    return groups


def _by_module(scaled: NDArray[np.floating], own: Sequence[int], count: int, seed: int) -> dict[str, list[int]]:
    from sklearn.cluster import KMeans

    if len(own) < count:
        raise DataError(f"{len(own)} features cannot make {count} modules", hint="Lower genomics.groups.count.")
    columns = scaled.T - scaled.T.mean(1, keepdims=True)  # (F, N)
    columns = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-9)
    labels = KMeans(count, n_init=4, random_state=seed).fit_predict(columns)
    # The largest first, so that names mean the same whatever numbers k-means gave.
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    return {
        f"module {number}": [own[int(place)] for place in np.flatnonzero(labels == label)]
        for number, label in enumerate(order, start=1)
    }
