"""Numbers of a whole set (an area under a curve, a concordance) with intervals from resamples of its groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.evaluation.rows import MEAN

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.cases import Case

__all__ = ["Pooled", "pooled_means", "summarise_pooled"]

Pooled = Mapping[tuple[str, str], float]
"""`(class, metric)` → value."""

_DEFINED_SHARE = 0.5
"""An interval is given only where more than this share of the resamples has a value."""


def pooled_means(values: Pooled) -> dict[tuple[str, str], float]:
    """The values, and for each metric its mean over the classes where the task gave none of its own."""
    by_metric: dict[str, list[float]] = defaultdict(list)
    for (class_name, metric), value in values.items():
        if class_name != MEAN:
            by_metric[metric].append(value)
    whole = dict(values)
    for metric, numbers in by_metric.items():
        defined = [number for number in numbers if number == number]
        whole.setdefault((MEAN, metric), sum(defined) / len(defined) if defined else float("nan"))
    return whole


def summarise_pooled(
    compute: Callable[[Sequence[Case]], Pooled],
    cases: Sequence[Case],
    *,
    failed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The numbers of a set, each with a percentile interval over resamples of its groups.

    Args:
        compute: The numbers of some cases, among which a case may stand more than once.
        cases: The reference cases.
        failed: How many of them have no prediction; only noted.
        resamples: Bootstrap resamples; 0 gives no intervals.
        confidence: Coverage of the intervals.
        seed: Seed of the resamples.

    Returns:
        The columns of `summarise`: `mean` is the number itself, and `std` and `median` are not defined. There is no
        interval with fewer than two groups, nor where half of the resamples have no value (one class only, say).
    """
    import numpy as np
    import pandas as pd

    whole = pooled_means(compute(cases))
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        members[case.group].append(case)
    names = sorted(members)
    generator = np.random.default_rng(seed)
    draws = np.full((resamples if len(names) > 1 and whole else 0, len(whole)), np.nan)
    for row in draws:
        chosen = [case for at in generator.integers(0, len(names), len(names)) for case in members[names[at]]]
        values = pooled_means(compute(chosen))
        row[:] = [values.get(key, float("nan")) for key in whole]
    records = []
    for column, ((class_name, metric), value) in enumerate(whole.items()):
        defined = draws[:, column][~np.isnan(draws[:, column])]
        low = high = float("nan")
        if defined.size > _DEFINED_SHARE * len(draws) and value == value:
            low, high = (float(x) for x in np.quantile(defined, ((1 - confidence) / 2, (1 + confidence) / 2)))
        records.append(
            {
                "class": class_name,
                "metric": metric,
                "mean": value,
                "low": low,
                "high": high,
                "std": float("nan"),
                "median": float("nan"),
                "cases": len(cases),
                "groups": len(names),
                "undefined": int(value != value),
                "failed": failed,
                "missed": 0,
                "invented": 0,
            }
        )
    return pd.DataFrame(records)
