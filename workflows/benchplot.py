"""Tables and the plot of `attention bench`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shared_attention.bench import Measurement

__all__ = ["plot", "table"]

_TOGETHER = 8
"""Lines that one picture still shows apart; with more, each family gets pictures of its own."""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plot(measurements: Sequence[Measurement], *, yardstick: str) -> bytes:
    """Time and peak memory of a forward and backward pass over the tokens, on logarithmic axes, as PNG.

    Args:
        measurements: Only those that came out are drawn.
        yardstick: Name of the mechanism that is drawn dashed in every picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = _groups([one for one in measurements if one.outcome == "ok"], yardstick)
    figure = Figure(figsize=(11, 3.4 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(groups), 2, squeeze=False)
    for (family, lines), (left, right) in zip(groups.items(), places, strict=True):
        for name, line in lines.items():
            style = {"color": "black", "linestyle": "--"} if name == yardstick else {}
            sizes = [one.tokens for one in line]
            left.plot(sizes, [one.training_seconds for one in line], marker="o", markersize=3, label=name, **style)
            right.plot(sizes, [one.training_bytes / 2**20 for one in line], marker="o", markersize=3, **style)
        left.set_title(family, loc="left", fontweight="bold")
        _dress(left, "seconds, forward and backward")
        _dress(right, "peak MiB, forward and backward")
        right.legend(*left.get_legend_handles_labels(), fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return image.getvalue()


def _groups(measurements: Sequence[Measurement], yardstick: str) -> dict[str, dict[str, list[Measurement]]]:
    """Lines of each picture: all in one, or by family, the yardstick in each."""
    from shared_attention import card

    lines: dict[str, list[Measurement]] = {}
    for one in measurements:
        lines.setdefault(one.name, []).append(one)
    if len(lines) <= _TOGETHER:
        return {"": lines}
    groups: dict[str, dict[str, list[Measurement]]] = {}
    for name, line in lines.items():
        shared = {yardstick: lines[yardstick]} if yardstick in lines else {}
        groups.setdefault(card(name).family, shared)[name] = line
    return dict(sorted(groups.items()))


def _dress(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens")
    axes.set_ylabel(label)
    axes.grid(True, which="both", alpha=0.2)
