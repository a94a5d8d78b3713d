"""Resampling of whole groups: confidence intervals of means, and a test of paired differences.

Cases of one group (a patient, a video) resemble one another, so groups are what is drawn, never single cases.
Everything here is a product of a matrix of draws with sums over groups: thousands of cases cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroupSums", "percentile_interval", "resampled_means", "sign_flip_p", "with_means"]

_CELLS = 4_000_000
"""Cells of a matrix of draws held at once."""
_EXACT_GROUPS = 13
"""Up to this many groups all sign patterns are walked through."""

Floats = NDArray[np.float64]


class GroupSums:
    """Sums and counts of the defined values of each group and column.

    Attributes:
        sums: `(groups, columns)`.
        counts: `(groups, columns)`, how many values are not NaN.
    """

    def __init__(self, values: Floats, groups: NDArray[np.intp]) -> None:
        """Takes values `(cases, columns)`, NaN where undefined, and for each case the index of its group."""
        size = int(groups.max()) + 1 if groups.size else 0
        defined = ~np.isnan(values)
        self.sums = np.zeros((size, values.shape[1]))
        self.counts = np.zeros((size, values.shape[1]))
        np.add.at(self.sums, groups, np.where(defined, values, 0.0))
        np.add.at(self.counts, groups, defined)

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def means(self) -> Floats:
        """Mean over all defined values of each column, NaN where there is none."""
        return _ratio(self.sums.sum(axis=0), self.counts.sum(axis=0))


def resampled_means(sums: GroupSums, *, resamples: int, seed: int) -> Floats:
    """Means of each column in bootstrap resamples of the groups: `(resamples, columns)`.

    A resample that holds no defined value of a column is NaN there.
    """
    generator = np.random.default_rng(seed)
    size = len(sums)
    step = max(1, _CELLS // max(size, 1))
    means = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, size, (rows, size))
        cells = (drawn + np.arange(rows)[:, None] * size).ravel()
        times = np.bincount(cells, minlength=rows * size).reshape(rows, size).astype(np.float64)
        means.append(_ratio(times @ sums.sums, times @ sums.counts))
    return np.concatenate(means)


def percentile_interval(means: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper percentile of each column, NaN where a column has no defined resample."""
    low = np.full(means.shape[1], np.nan)
    high = low.copy()
    tail = (1 - confidence) / 2
    for column in range(means.shape[1]):
        defined = means[:, column][~np.isnan(means[:, column])]
        if defined.size:
            low[column], high[column] = np.quantile(defined, (tail, 1 - tail))
    return low, high


def sign_flip_p(contributions: Floats, *, permutations: int, seed: int) -> Floats:
    """Two-sided p of each column under the hypothesis that each group's difference is as likely with the other sign.

    Args:
        contributions: Share of each group in the statistic: `(groups, columns)`.
        permutations: Random sign patterns drawn where there are too many groups to walk through all.
        seed: Seed of the draw.
    """
    size = len(contributions)
    observed = np.abs(contributions.sum(axis=0))
    # Sums of the same numbers in another order differ in the last bits; they still count as equal.
    bound = observed - 1e-9 * np.abs(contributions).sum(axis=0)
    if size <= _EXACT_GROUPS:
        patterns = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
        reached = np.abs((1.0 - 2.0 * patterns) @ contributions) >= bound
        return np.asarray(reached.mean(axis=0))
    generator = np.random.default_rng(seed)
    count = np.zeros(contributions.shape[1])
    step = max(1, _CELLS // size)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        signs = 1.0 - 2.0 * generator.integers(0, 2, (rows, size), dtype=np.int8)
        count += (np.abs(signs @ contributions) >= bound).sum(axis=0)
    return np.asarray((count + 1) / (permutations + 1))


def with_means(values: Floats, members: Sequence[Sequence[int]]) -> Floats:
    """Columns, and after them the mean of each set of columns over what is defined: `(rows, columns + sets)`."""
    parts = [values[:, list(columns)] for columns in members]
    extra = [_ratio(np.nansum(part, axis=1), (~np.isnan(part)).sum(axis=1)) for part in parts]
    return np.column_stack([values, *extra])


def _ratio(numerator: Floats, denominator: NDArray[Any]) -> Floats:
    quotient: Floats = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
