"""What the training part decided: everything that serving and judging a network needs besides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.survival.kaplan_meier import StepFunction, censoring_curve, kaplan_meier
from domains.medical.survival.times import Intervals

__all__ = ["Judging", "Plan", "measure_follow_up"]

_GRID = 64
_MOST_STEPS = 512
_FOLLOWED = 0.1
"""Share of the training patients who are still followed at the horizon of judgement."""


@dataclass(frozen=True)
class Judging:
    """What judging needs of the training part.

    Attributes:
        horizon: Until when predictions are judged: a tenth of the training patients were followed longer.
        censoring: Probability of not being censored yet, up to the horizon.
    """

    horizon: float
    censoring: StepFunction

    @property
    def grid(self) -> NDArray[np.float64]:
        """Times at which survival is judged, from 0 to the horizon."""
        return np.linspace(0.0, self.horizon, _GRID)

    def followed(self, time: float) -> float:
        """Probability of not being censored until a time, or until the horizon where that is earlier."""
        return float(self.censoring.at(min(time, self.horizon)))


@dataclass(frozen=True)
class Plan:
    """How a network is built, served and judged.

    Attributes:
        case_id: Column of identifiers.
        unit: Unit of times.
        features: Columns in the order that the network takes them.
        groups: Genomic group → places among `features`.
        bag_column: Column of bag files, and what is added to its cells; None without slides.
        bag_features: Width of an instance, None without slides.
        intervals: How time is cut.
        baseline: Hazard of each interval over the training part.
        judging: What judging needs.
        synthetic: Whether bags were simulated.
    """

    case_id: str
    unit: str
    features: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]
    bag_column: tuple[str, str] | None
    bag_features: int | None
    intervals: Intervals
    baseline: tuple[float, ...]
    judging: Judging
    synthetic: bool = False

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "case_id": self.case_id,
            "unit": self.unit,
            "features": list(self.features),
            "groups": {name: list(places) for name, places in self.groups.items()},
            "bag_column": list(self.bag_column) if self.bag_column else None,
            "bag_features": self.bag_features,
            "intervals": {name: _listed(value) for name, value in asdict(self.intervals).items()},
            "baseline": list(self.baseline),
            "judging": {
                "horizon": self.judging.horizon,
                "censoring_times": self.judging.censoring.times.tolist(),
                "censoring": self.judging.censoring.values.tolist(),
            },
            "synthetic": self.synthetic,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Plan:
        """The inverse of `describe`."""
        judging, intervals, column = description["judging"], description["intervals"], description["bag_column"]
        return cls(
            case_id=description["case_id"],
            unit=description["unit"],
            features=tuple(description["features"]),
            groups={name: tuple(places) for name, places in description["groups"].items()},
            bag_column=(column[0], column[1]) if column else None,
            bag_features=description["bag_features"],
            intervals=Intervals(
                tuple(intervals["inner"]),
                intervals["horizon"],
                tuple(intervals["hazard_times"]),
                tuple(intervals["hazard"]),
            ),
            baseline=tuple(description["baseline"]),
            judging=Judging(
                judging["horizon"],
                StepFunction(np.array(judging["censoring_times"], float), np.array(judging["censoring"], float)),
            ),
            synthetic=bool(description["synthetic"]),
        )


def measure_follow_up(
    time: NDArray[np.float64], event: NDArray[np.int64], *, count: int
) -> tuple[Intervals, tuple[float, ...], Judging]:
    """Intervals, their hazards, and what judging needs, from the training part.

    Args:
        time: `(N,)`.
        event: `(N,)`.
        count: Intervals.

    Raises:
        DataError: There are fewer events than intervals.
    """
    intervals = Intervals.from_times(time, event, count=count)
    horizon = float(np.quantile(time, 1 - _FOLLOWED))
    curve = censoring_curve(time, event)
    kept = curve.times <= horizon
    steps, values = curve.times[kept], curve.values[kept]
    changed = np.flatnonzero(np.diff(values, prepend=1.0))
    if len(changed) > _MOST_STEPS:  # a large cohort: as many steps as can be told
        changed = changed[np.linspace(0, len(changed) - 1, _MOST_STEPS).round().astype(int)]
    judging = Judging(horizon, StepFunction(steps[changed], values[changed]))
    alive = kaplan_meier(time, event).at([0.0, *intervals.ends])
    baseline = 1 - alive[1:] / np.maximum(alive[:-1], 1e-9)
    return intervals, tuple(float(hazard) for hazard in baseline), judging


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
