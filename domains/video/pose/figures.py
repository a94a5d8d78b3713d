"""Pictures of poses: what was found beside what was labelled, PCK over thresholds, the errors of each joint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.judging import judged_persons, observed_arrays
from domains.video.pose.labels import LabelledFrame
from domains.video.pose.predictor import PoseResult
from domains.video.pose.settings import JudgeSettings
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case
from pipelines.task import Figure, Observation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["draw_case", "draw_curve", "draw_errors"]

_FOUND, _LABELLED = "#ff7f0e", "#19d3f3"
_CURVE = 2.5
"""The curve goes on to this multiple of the threshold."""


def draw_case(case: Case, result: PoseResult, frame: LabelledFrame, joints: JointSet) -> Figure:
    """The picture with labelled and found joints, lines between each pair, and bones of what was found."""
    from matplotlib.figure import Figure as Drawing

    height, width = result.picture.shape[:2]
    side = 5.5
    drawing = Drawing(figsize=(side * min(1.5, width / height) + 0.3, side), dpi=90)
    axes = drawing.add_subplot()
    axes.imshow(result.picture)
    persons = judged_persons(frame)
    for points, person in zip(result.pose.points, persons, strict=True):
        known = person.known
        for bone in joints.bones:
            ends = [joints.joints.index(name) for name in bone]
            axes.plot(points[ends, 0], points[ends, 1], color=_FOUND, linewidth=1.5, alpha=0.8)
        for one, other in zip(points[known], person.points[known], strict=True):
            axes.plot([one[0], other[0]], [one[1], other[1]], color="white", linewidth=0.8)
        axes.scatter(points[:, 0], points[:, 1], s=22, color=_FOUND, label="found", zorder=3)
        x, y = person.points[known].T
        axes.scatter(x, y, s=22, facecolors="none", edgecolors=_LABELLED, label="labelled", zorder=4)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.set_axis_off()
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], fontsize=7, loc="lower right")
    caption = f"{case.case_id}: joints as found (orange) and as labelled (blue rings); white lines are the errors."
    return Figure(f"pose-{case.case_id}", _pixels(drawing), caption, None, case.case_id)


def draw_curve(observed: Mapping[str, Observation], judge: JudgeSettings) -> Figure:
    """PCK of all joints over thresholds."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    shares = _shares(observed)[0].ravel()
    shares = np.sort(shares[~np.isnan(shares)])
    steps = np.linspace(0, _CURVE * judge.threshold, 101)
    curve = np.searchsorted(shares, steps, side="right") / max(len(shares), 1)
    drawing = Drawing(figsize=(5.5, 4), dpi=90)
    axes = drawing.add_subplot()
    axes.plot(steps, curve, color="#1f77b4")
    at = float((shares <= judge.threshold).mean()) if len(shares) else float("nan")
    axes.axvline(judge.threshold, color="0.6", linestyle=":")
    beside = (6, -12 if at > 0.5 else 6)
    axes.annotate(f"{at:.3f}", (judge.threshold, at), textcoords="offset points", xytext=beside, fontsize=9)
    unit = "pixels" if judge.normaliser == "pixels" else f"share of the {judge.normaliser}"
    axes.set(xlabel=f"threshold ({unit})", ylabel="share of correct joints", ylim=(0, 1), xlim=(0, steps[-1]))
    table = pd.DataFrame({"threshold": steps, "pck": curve})
    caption = f"Share of {len(shares)} labelled joints within a threshold; PCK@{judge.threshold:g} is {at:.3f}."
    return Figure("pck", _pixels(drawing), caption, table)


def draw_errors(observed: Mapping[str, Observation], joints: JointSet, judge: JudgeSettings) -> Figure:
    """Errors of each joint in pixels: median, quartiles, and nine tenths."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    shares, errors = _shares(observed)
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(joints.joints):
        known = errors[:, place][~np.isnan(errors[:, place])]
        share = shares[:, place][~np.isnan(shares[:, place])]
        low, middle, high, most = np.percentile(known, (25, 50, 75, 90)) if known.size else [float("nan")] * 4
        pck = float((share <= judge.threshold).mean()) if share.size else float("nan")
        rows.append(
            {"joint": name, "labelled": known.size, "p25": low, "median": middle, "p75": high, "p90": most, "pck": pck}
        )
    table = pd.DataFrame(rows)
    drawing = Drawing(figsize=(7, 1.2 + 0.26 * len(joints)), dpi=90)
    axes = drawing.add_subplot()
    places = np.arange(len(joints))
    axes.hlines(places, table["p25"], table["p90"], color="0.75", linewidth=2)
    axes.hlines(places, table["p25"], table["p75"], color="#1f77b4", linewidth=6)
    axes.plot(table["median"], places, "|", color="black", markersize=12)
    told = [f"{row['pck']:.2f}" if row["labelled"] else "not labelled" for row in rows]
    axes.set_yticks(places, [f"{row['joint']}  ({one})" for row, one in zip(rows, told, strict=True)], fontsize=8)
    axes.set(xlim=(0, None), ylim=(len(joints) - 0.5, -0.5))
    axes.set_xlabel("error in pixels: median, quartiles, up to nine tenths")
    caption = f"Errors of each joint; in brackets its share within {judge.threshold:g} of the {judge.normaliser}."
    return Figure("joint-errors", _pixels(drawing), caption, table)


def _shares(observed: Mapping[str, Observation]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors `(persons, J)` in units of the normaliser, and in pixels."""
    pairs = [observed_arrays(seen) for seen in observed.values()]
    errors = np.concatenate([error for error, _ in pairs])
    sizes = np.concatenate([size for _, size in pairs])
    return errors / sizes[:, None], errors


def _pixels(drawing: Drawing) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(drawing)
    drawing.tight_layout()
    canvas.draw()
    image: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return image
