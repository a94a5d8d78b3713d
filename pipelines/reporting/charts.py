"""Charts as inline SVG: they scale, print, follow light and dark, and carry their numbers as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Dot", "Line", "Strip", "interval_bar", "line_chart", "strip_plot"]

_COLOURS = 6
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points `(x, y)`; `faint` for curves that stand behind."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True)
class Dot:
    """One case in a strip: its value, what a pointer shows, where a click leads."""

    value: float
    title: str
    link: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Strip:
    """One row of a strip plot: a class, its cases, and mean and interval where they are known."""

    name: str
    dots: Sequence[Dot]
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    note: str = ""


def line_chart(title: str, lines: Sequence[Line], *, x_label: str, marker: tuple[float, str] | None = None) -> Markup:
    """Curves over a shared axis; `marker` is a vertical line with a name."""
    width, height, left, right, top, bottom = 520, 260, 52, 14, 14, 40
    drawn = [Line(line.name, _finite(line.points), line.faint) for line in lines]
    points = [point for line in drawn for point in line.points]
    if not points:
        return Markup("")
    x_ticks = _ticks(min(x for x, _ in points), max(x for x, _ in points), whole=True)
    y_ticks = _ticks(min(y for _, y in points), max(y for _, y in points))
    x_of = _scale(min(x for x, _ in points), max(x for x, _ in points), left, width - right)
    y_of = _scale(y_ticks[0], y_ticks[-1], height - bottom, top)
    parts = [_grid_y(y_ticks, y_of, left, width - right), _axis_x(x_ticks, x_of, height - bottom, x_label, width)]
    if marker is not None and x_of(points[0][0]) is not None:
        x = x_of(marker[0])
        anchor = "end" if x > width * 0.6 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(
            Markup('<line class="marker" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, top, height - bottom)
            + Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
                x + shift, top + 9, anchor, marker[1]
            )
        )
    for index, line in enumerate(drawn):
        colour = f"c{index % _COLOURS}{' faint' if line.faint else ''}"
        if len(line.points) == 1:
            (x, y) = line.points[0]
            parts.append(
                Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(colour, x_of(x), y_of(y))
            )
            continue
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in _thinned(line.points))
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(colour, path))
    summary = "; ".join(f"{line.name} ends at {_short(line.points[-1][1])}" for line in drawn if line.points)
    svg = _svg(width, height, f"{title}. {summary}", parts)
    if len(drawn) == 1:
        return svg
    keys = Markup("").join(
        Markup('<li><span class="key c{}{}"></span>{}</li>').format(
            index % _COLOURS, " faint" if line.faint else "", line.name
        )
        for index, line in enumerate(drawn)
    )
    return svg + Markup('<ul class="legend">{}</ul>').format(keys)


def strip_plot(
    title: str, strips: Sequence[Strip], *, x_label: str, bounds: tuple[float | None, float | None] = (None, None)
) -> Markup:
    """One row for each class, one dot for each case.

    The axis spans the bulk of the cases; the few far from it (a structure missed altogether) stand at its edge as
    triangles with their number, so that they neither hide nor squeeze the rest.
    """
    values = [dot.value for strip in strips for dot in strip.dots if math.isfinite(dot.value)]
    if not values:
        return Markup("")
    width, row, top, bottom = 860, 74, 8, 40
    left, right = _label_width(strips), 26
    height = top + row * len(strips) + bottom
    ticks = _ticks(*_bulk(values, strips), bounds=bounds)
    x_of = _scale(ticks[0], ticks[-1], left, width - right)
    parts = [_grid_x(ticks, x_of, top, height - bottom), _axis_x(ticks, x_of, height - bottom, x_label, width)]
    for index, strip in enumerate(strips):
        middle = top + row * index + row / 2
        parts.append(_strip(strip, index, middle, x_of))
    summary = "; ".join(
        f"{strip.name}: {len(strip.dots)} cases, mean {_short(strip.mean)}, interval {_short(strip.low)} to "
        f"{_short(strip.high)}"
        for strip in strips
    )
    return _svg(width, height, f"{title}. {summary}", parts)


def interval_bar(mean: float, low: float, high: float, bounds: tuple[float, float]) -> Markup:
    """A small bar with a mean and its interval on a common scale."""
    if not all(map(math.isfinite, (mean, low, high))) or bounds[0] >= bounds[1]:
        return Markup("")
    x_of = _scale(bounds[0], bounds[1], 4, 196)
    parts = [
        Markup('<line class="rail" x1="4" x2="196" y1="9" y2="9"/>'),
        Markup('<line class="interval" x1="{:.1f}" x2="{:.1f}" y1="9" y2="9"/>').format(x_of(low), x_of(high)),
        Markup('<circle class="mean" cx="{:.1f}" cy="9" r="4.5"/>').format(x_of(mean)),
    ]
    return _svg(200, 18, f"mean {_short(mean)}, interval {_short(low)} to {_short(high)}", parts)


def _strip(strip: Strip, index: int, middle: float, x_of: _Scale) -> Markup:
    left, right = x_of.start, x_of.end
    parts = [
        Markup('<text class="row" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            left - 14, middle - 2, strip.name
        ),
        Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(
            left - 14, middle + 13, strip.note or f"{len(strip.dots)} cases"
        ),
    ]
    inside = [dot for dot in strip.dots if x_of.low <= dot.value <= x_of.high]
    parts.append(_beyond([dot for dot in strip.dots if dot.value < x_of.low], left, -1, middle, index))
    parts.append(_beyond([dot for dot in strip.dots if dot.value > x_of.high], right, 1, middle, index))
    for dot, (x, offset) in zip(inside, _swarm([x_of(dot.value) for dot in inside]), strict=True):
        kind = "dot marked" if dot.marked else "dot"
        circle = Markup('<circle class="{} c{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
            kind, index % _COLOURS, x, middle + offset, 4.2 if dot.marked else 3.2, dot.title
        )
        parts.append(Markup('<a href="{}">{}</a>').format(dot.link, circle) if dot.link else circle)
    if math.isfinite(strip.mean):
        x = x_of(strip.mean)
        if math.isfinite(strip.low) and math.isfinite(strip.high):
            parts.append(
                Markup('<line class="interval" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    x_of(strip.low), x_of(strip.high), middle + 26, middle + 26
                )
            )
        parts.append(Markup('<circle class="mean" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(x, middle + 26))
    return Markup("").join(parts)


def _beyond(dots: Sequence[Dot], x: float, side: int, middle: float, index: int) -> Markup:
    """Cases beyond one end of the axis: one triangle for all, its number, and a list of them for a pointer."""
    if not dots:
        return Markup("")
    points = f"{x + side * 9:.1f},{middle:.1f} {x - side * 2:.1f},{middle - 6:.1f} {x - side * 2:.1f},{middle + 6:.1f}"
    names = "; ".join(dot.title for dot in dots[:20])
    triangle = Markup('<polygon class="dot marked c{}" points="{}"><title>{}</title></polygon>').format(
        index % _COLOURS, points, names
    )
    link = next((dot.link for dot in dots if dot.link), "")
    values = sorted(dot.value for dot in dots)
    span = _short(values[0]) if values[0] == values[-1] else f"{_short(values[0])} to {_short(values[-1])}"
    label = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{} at {}</text>').format(
        x + side * 4, middle - 11, "start" if side < 0 else "end", len(dots), span
    )
    return (Markup('<a href="{}">{}</a>').format(link, triangle) if link else triangle) + label


def _swarm(xs: Sequence[float]) -> list[tuple[float, float]]:
    """Dots side by side where they would cover each other: offsets from the middle of the row, within 18 units."""
    placed: dict[int, int] = {}
    result = []
    for x in xs:
        column = round(x / 5)
        rank = placed.get(column, 0)
        placed[column] = rank + 1
        offset = ((rank + 1) // 2) * 6.0 * (-1 if rank % 2 else 1)
        result.append((x, max(-24.0, min(18.0, offset))))
    return result


class _Scale:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end
        self._span = (high - low) or 1.0

    def __call__(self, value: float) -> float:
        share = (value - self.low) / self._span
        share = min(max(share, 0.0), 1.0)
        return self.start + share * (self.end - self.start)


_scale = _Scale


def _ticks(
    low: float, high: float, *, whole: bool = False, bounds: tuple[float | None, float | None] = (None, None)
) -> list[float]:
    """Round numbers around a range; never beyond the bounds of the metric."""
    if low == high:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    raw = (high - low) / _TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    if whole:
        step = max(1, round(step))
        return [float(value) for value in range(math.ceil(low / step) * step, math.floor(high) + 1, step)]
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, last + 1)]
    smallest, largest = bounds
    kept = [
        tick for tick in ticks if (smallest is None or tick >= smallest) and (largest is None or tick <= largest + 1e-9)
    ]
    return kept if len(kept) > 1 else ticks


def _grid_y(ticks: Sequence[float], y_of: _Scale, left: float, right: float) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            left, right, y_of(tick), y_of(tick)
        )
        + Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            left - 7, y_of(tick) + 3.5, _short(tick)
        )
        for tick in ticks
    )


def _grid_x(ticks: Sequence[float], x_of: _Scale, top: float, bottom: float) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x_of(tick), top, bottom)
        for tick in ticks
    )


def _axis_x(ticks: Sequence[float], x_of: _Scale, y: float, label: str, width: float) -> Markup:
    ends = (x_of.start, x_of.end)
    parts = [Markup('<line class="axis" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(*ends, y, y)]
    parts.extend(
        Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            x_of(tick), y + 15, _short(tick)
        )
        for tick in ticks
    )
    middle = (ends[0] + ends[1]) / 2
    parts.append(
        Markup('<text class="label" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(middle, y + 32, label)
    )
    return Markup("").join(parts)


def _svg(width: float, height: float, text: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, escape(text), Markup("").join(parts)
    )


def _bulk(values: Sequence[float], strips: Sequence[Strip]) -> tuple[float, float]:
    """The range of the axis: all values, or the middle of them and the intervals when a few lie far away."""
    ordered = sorted(values)
    cut = max(1, len(ordered) // 20)
    ends = [end for strip in strips for end in (strip.low, strip.high, strip.mean) if math.isfinite(end)]
    bulk = [*ordered[cut:-cut], *ends] or ordered
    low, high = min(bulk), max(bulk)
    reach = 1.5 * (high - low)
    return (
        low if ordered[0] < low - reach else min(ordered[0], low),
        high if ordered[-1] > high + reach else max(ordered[-1], high),
    )


def _label_width(strips: Sequence[Strip]) -> float:
    longest = max(max(7.6 * len(strip.name), 6.0 * len(strip.note)) for strip in strips)
    return min(260.0, max(96.0, 22 + longest))


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _thinned(points: Sequence[tuple[float, float]], most: int = 800) -> Sequence[tuple[float, float]]:
    if len(points) <= most:
        return points
    stride = math.ceil(len(points) / most)
    return [*points[:-1:stride], points[-1]]


def _short(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.4g}"
