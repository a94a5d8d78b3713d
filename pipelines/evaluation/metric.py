"""What a metric's numbers mean: which way is better, and what a failure costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Metric"]


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        better: `higher`, `lower`, or `neither` for a number that only describes (a volume).
        worst: What a case without any judgement is given. None, where the worst differs from case to case (a distance
            bounded by the size of the image): it then takes the worst that any case of the table took.
        unit: For example `mm` or `ml`; empty for a ratio.
        summary: One line for tables and reports.
        label: What people call it (`C-index`); empty where the name, or what reports know of it, is enough.
        headline: Whether a report begins with it; without any, it begins with the one that chose the weights.
    """

    better: Literal["higher", "lower", "neither"] = "higher"
    worst: float | None = None
    unit: str = ""
    summary: str = ""
    label: str = ""
    headline: bool = False
