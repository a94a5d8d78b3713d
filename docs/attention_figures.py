"""Draws what each attention mechanism looks at: the derivative of three output tokens by every input token.

The numbers are kept as CSV beside the picture, and pictures are drawn again only when the numbers change.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from shared_attention import Pair, Reducer, cards
from shared_attention.influence import influence
from shared_attention.testing import Subject

__all__ = ["FIGURES", "Panel", "differs", "panels", "parse", "refresh", "to_csv"]

FIGURES = Path(__file__).parent / "reference" / "attention" / "figures"
SIDE = 12
"""Tokens along each axis."""
PLACES = ((1, 1), (5, 6), (10, 3))
SAMPLES = 1
"""Random inputs, of which a number is the mean."""
FLOOR = 1e-9
"""Influence below this part of the largest is what rounding leaves; it counts as none."""
DECADES = 4
"""How far the colours reach below the largest influence."""


class Panel(NamedTuple):
    """One picture: a form of the mechanism and an output token."""

    form: str
    place: tuple[int, ...]
    """On the grid of the input, on a smaller one, or the number of a summary."""
    values: list[list[float]]
    """Influence of each input token, as a part of the largest."""


def panels(name: str) -> Iterator[Panel]:
    """What three output tokens depend on, for each form that the layers of a stack take."""
    generator = torch.Generator().manual_seed(11)
    for form, run in _forms(name):
        x = torch.randn(SAMPLES, SIDE, SIDE, 16, generator=generator, dtype=torch.float64)
        places = _places(tuple(run(x[:1]).shape[1:-1]))
        for place, seen in zip(places, influence(run, x, places), strict=True):
            part = seen / seen.max()
            yield Panel(form, place, [[_rounded(value) for value in row] for row in part.tolist()])


def _places(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Output tokens to look at: on the grid of the output, or the first summaries."""
    if len(grid) == 1:
        return [(number,) for number in range(min(grid[0], len(PLACES)))]
    return [tuple(at * size // SIDE for at, size in zip(place, grid, strict=True)) for place in PLACES]


def _rounded(value: float) -> float:
    return float(f"{value:.2e}") if value > FLOOR else 0.0


def _forms(name: str) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    card = cards()[name]
    for number in range(max(1, len(card.alternation))):
        layer = card.layer_arguments(number)
        subject = Subject(name, 2, {**card.small, **layer})
        module = subject.module(torch.float64)
        if isinstance(module, Pair):
            yield "first by first", lambda x, module=module: module(x, _second(x))[0]
            yield "first by second", lambda y, module=module: module(_second(y), y)[0]
        elif isinstance(module, Reducer):
            yield "", lambda x, module=module: module(x).tokens.unflatten(1, (SIDE // 2, SIDE // 2))
        else:
            yield ", ".join(f"{key}={value}" for key, value in layer.items()), module


def _second(x: Tensor) -> Tensor:
    """The other token set of a pair: random, and apart from the first."""
    one = torch.randn(1, *x.shape[1:], generator=torch.Generator().manual_seed(12), dtype=x.dtype)
    return one.expand_as(x)


def to_csv(found: list[Panel]) -> str:
    """A line for each row of tokens of each panel."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["form", "output", "input row", *(f"column {at}" for at in range(SIDE))])
    for panel in found:
        for row, values in enumerate(panel.values):
            place = " ".join(map(str, panel.place))
            writer.writerow([panel.form, place, row, *("0" if value == 0 else f"{value:.2e}" for value in values)])
    return text.getvalue()


def parse(text: str) -> list[Panel]:
    """What `to_csv` wrote."""
    found: dict[tuple[str, tuple[int, ...]], list[list[float]]] = {}
    for form, place, _, *values in list(csv.reader(io.StringIO(text)))[1:]:
        at = tuple(int(part) for part in place.split())
        found.setdefault((form, at), []).append([float(value) for value in values])
    return [Panel(form, place, values) for (form, place), values in found.items()]


def differs(first: list[Panel], second: list[Panel]) -> bool:
    """Whether two sets of panels tell different things, beyond what another machine rounds otherwise."""
    if [one[:2] for one in first] != [one[:2] for one in second]:
        return True
    flat = [
        torch.tensor([one.values for one in found], dtype=torch.float64).flatten().tolist() for found in (first, second)
    ]
    pairs = zip(*flat, strict=True)
    return any(max(a, b) > 1e-6 and not math.isclose(a, b, rel_tol=0.03) for a, b in pairs)


def refresh(name: str, *, write: bool) -> bool:
    """Whether the figure of a mechanism is out of date; with `write` it is drawn again then."""
    table, picture = FIGURES / f"{name}.csv", FIGURES / f"{name}.png"
    found = list(panels(name))
    stale = not (table.is_file() and picture.is_file()) or differs(found, parse(table.read_text(encoding="utf-8")))
    if stale and write:
        FIGURES.mkdir(parents=True, exist_ok=True)
        table.write_text(to_csv(found), encoding="utf-8")
        _draw(found, picture)
        sys.stderr.write(f"{picture.name} drawn\n")
    return stale


def _draw(found: list[Panel], target: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    rows = len({panel.form for panel in found})
    columns = len(found) // rows
    figure, axes = plt.subplots(
        rows, columns, figsize=(0.7 + 1.9 * columns, 0.35 + 1.95 * rows), dpi=100, layout="constrained", squeeze=False
    )
    colours = mpl.colormaps["viridis"].copy()
    colours.set_bad("white")
    norm = LogNorm(10.0**-DECADES, 1.0, clip=True)
    for axis, panel in zip(axes.flat, found, strict=True):
        values = torch.tensor(panel.values).numpy()
        image = axis.imshow(_hidden(values), cmap=colours, norm=norm)
        _mark(axis, panel.place, reduced=panel.place not in PLACES)
    for start, panel in zip(axes[:, 0], found[::columns], strict=True):
        start.set_ylabel(panel.form, fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("influence, part of the largest", fontsize=7)
    figure.savefig(target, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)


def _mark(axis, place: tuple[int, ...], *, reduced: bool) -> None:  # type: ignore[no-untyped-def]
    """Which output token it is, with a frame where it stands on the grid of the input."""
    from matplotlib.patches import Rectangle

    axis.set_xticks([])
    axis.set_yticks([])
    if reduced:
        axis.set_title(f"by output {place[0] if len(place) == 1 else place}", fontsize=8)
        return
    row, column = place
    axis.set_title(f"by token ({row}, {column})", fontsize=8)
    axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=1.4))


def _hidden(values):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.ma.masked_where(values == 0, values)
