"""Time cut into intervals, and survival between their ends.

>>> intervals = Intervals.from_times([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 1, 1, 1, 1, 1, 1], count=4)
>>> intervals.inner
(2.75, 4.5, 6.25)
>>> intervals.of([0.5, 2.75, 99]).tolist()  # an interval holds its beginning, not its end
[0, 1, 3]
>>> intervals.survival_at(np.array([[0.9, 0.6, 0.5, 0.2]]), [0.0, 2.75, 4.5, 100.0]).round(4).tolist()
[[1.0, 0.9, 0.6, 0.2]]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.errors import DataError

__all__ = ["Intervals"]

_MOST_KNOTS = 256
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Intervals:
    """Intervals `[0, e1), [e1, e2), …`; the last one has no end.

    Attributes:
        inner: The ends of all intervals but the last, rising.
        horizon: Where the last interval is taken to end when survival is read inside it: the longest time of the
            training part.
        hazard_times: Rising times from 0 to the horizon, and
        hazard: the cumulative hazard of the training part at them (Nelson and Aalen), which says how risk is spread
            over an interval; without them it is spread evenly.
    """

    inner: tuple[float, ...]
    horizon: float
    hazard_times: tuple[float, ...] = ()
    hazard: tuple[float, ...] = ()

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
        return cls(inner, longest, *_cumulative_hazard(times, seen))

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
        """Survival at any times; constant after the horizon.

        Inside an interval the patient's hazard has the course of the training part's, raised or lowered to meet the
        survival that is foretold for the interval's end. The last interval, often the longest by far, needs it most.

        Args:
            survival: `(N, K)`, at the end of each interval.
            times: `(T,)`.

        Returns:
            `(N, T)` float64.
        """
        knots = np.array([0.0, *self.ends])
        at = np.clip(np.asarray(times, dtype=float), 0.0, self.horizon)
        values = np.concatenate([np.ones((len(survival), 1)), np.asarray(survival, dtype=float)], axis=1)  # (N, K + 1)
        values = np.maximum(values, _SMALLEST)
        right = np.clip(np.searchsorted(knots, at, side="left"), 1, len(knots) - 1)
        share = self._share(at, knots[right - 1], knots[right])
        return np.asarray(values[:, right - 1] * (values[:, right] / values[:, right - 1]) ** share)

    def _share(
        self, at: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Which part of an interval's risk lies before a time: 0 at its start, 1 at its end."""
        even = (at - start) / (end - start)
        if not self.hazard_times:
            return np.asarray(even)
        begun, now, ended = (np.interp(one, self.hazard_times, self.hazard) for one in (start, at, end))
        return np.where(ended > begun, (now - begun) / np.maximum(ended - begun, _SMALLEST), even)


def _cumulative_hazard(
    time: NDArray[np.float64], event: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Times and cumulative hazard, drawn through the times of events; thinned in a large cohort."""
    times = np.unique(time[event])
    deaths = np.array([(time[event] == one).sum() for one in times]) if len(times) <= _MOST_KNOTS else None
    if deaths is None:
        times = np.unique(np.quantile(times, np.linspace(0, 1, _MOST_KNOTS), method="nearest"))
        deaths = np.diff(np.searchsorted(np.sort(time[event]), times, side="right"), prepend=0)
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    total = np.cumsum(deaths / at_risk)
    knots, values = [0.0, *times.tolist()], [0.0, *total.tolist()]
    if knots[-1] < time.max():
        knots, values = [*knots, float(time.max())], [*values, values[-1]]
    return tuple(knots), tuple(round(value, 6) for value in values)
