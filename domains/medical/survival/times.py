"""Time cut into intervals, and survival between their ends.

>>> intervals = Intervals.from_times([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 1, 1, 1, 1, 1, 1], count=4)
>>> intervals.inner
(2.75, 4.5, 6.25)
>>> intervals.of([0.5, 2.75, 99]).tolist()  # an interval holds its beginning, not its end
[0, 1, 3]
>>> intervals.survival_at(np.array([[0.9, 0.6, 0.5, 0.2]]), [0.0, 2.75, 3.625, 100.0]).tolist()
[[1.0, 0.9, 0.75, 0.2]]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.errors import DataError

__all__ = ["Intervals"]


@dataclass(frozen=True)
class Intervals:
    """Intervals `[0, e1), [e1, e2), …`; the last one has no end.

    Attributes:
        inner: The ends of all intervals but the last, rising.
        horizon: Where the last interval is taken to end when survival is read inside it: the longest time of the
            training part.
    """

    inner: tuple[float, ...]
    horizon: float

    @classmethod
    def from_times(cls, time: ArrayLike, event: ArrayLike, *, count: int) -> Intervals:
        """Cuts at the quantiles of the times of events, as MCAT and CMTA do. Give the training part alone.

        Args:
            time: `(N,)`.
            event: `(N,)`, 1 where the event was seen.
            count: Intervals wanted; equal quantiles are one, so there may be fewer.

        Raises:
            DataError: There are fewer events than intervals.
        """
        times, seen = np.asarray(time, dtype=float), np.asarray(event).astype(bool)
        if seen.sum() < count:
            raise DataError(
                f"{int(seen.sum())} events in the training part: too few to cut time into {count} intervals",
                hint=f"Ask for fewer intervals (model.intervals), at most {max(int(seen.sum()), 1)}.",
            )
        cuts = np.unique(np.quantile(times[seen], np.arange(1, count) / count))
        longest = float(times.max())
        inner = tuple(float(cut) for cut in cuts if 0 < cut < longest)
        return cls(inner, longest)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.inner) + 1

    @property
    def ends(self) -> tuple[float, ...]:
        """The end of each interval, the horizon for the last."""
        return (*self.inner, self.horizon)

    def of(self, time: ArrayLike) -> NDArray[np.int64]:
        """The interval of each time, `(N,)` int64."""
        return np.searchsorted(np.asarray(self.inner), np.asarray(time, dtype=float), side="right").astype(np.int64)

    def survival_at(self, survival: NDArray[np.floating], times: ArrayLike) -> NDArray[np.float64]:
        """Survival at any times, along straight lines between the ends of intervals, constant after the horizon.

        Args:
            survival: `(N, K)`, at the end of each interval.
            times: `(T,)`.

        Returns:
            `(N, T)` float64.
        """
        knots = np.array([0.0, *self.ends])
        at = np.clip(np.asarray(times, dtype=float), 0.0, self.horizon)
        values = np.concatenate([np.ones((len(survival), 1)), np.asarray(survival, dtype=float)], axis=1)  # (N, K + 1)
        right = np.clip(np.searchsorted(knots, at, side="left"), 1, len(knots) - 1)
        share = (at - knots[right - 1]) / (knots[right] - knots[right - 1])
        return np.asarray(values[:, right - 1] * (1 - share) + values[:, right] * share)
