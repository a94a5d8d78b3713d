"""Pictures: where and when a network looked, and strips of the videos that were judged worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from domains.video.action.figures import pixels
from domains.video.decoding import open_video
from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.task import Figure, Observation

if TYPE_CHECKING:
    from pathlib import Path

    from domains.video.clip_action.predictor import ClipPrediction

__all__ = ["draw_video", "draw_worst", "read_strip"]

_SHOWN = 8
_WORST = 8
_STRIP_HEIGHT = 96


def draw_video(case: Case, result: ClipPrediction, classes: Sequence[str]) -> Figure:
    """Frames of the clip that is surest, what counted in each as a veil, and how much each counted below."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    chosen = np.unique(np.linspace(0, len(result.times) - 1, min(_SHOWN, len(result.times))).round().astype(int))
    images = read_strip(case.case_id, result.path, result.times[chosen], height=160)
    drawing = Drawing(figsize=(10, 3.4), dpi=90)
    grid = drawing.add_gridspec(2, len(chosen), height_ratios=(1.5, 1))
    strongest = max(float(result.attention.max()), 1e-12)
    for column, (frame, image) in enumerate(zip(chosen, images, strict=True)):
        axes = drawing.add_subplot(grid[0, column])
        axes.imshow(image)
        extent = (0, image.shape[1], image.shape[0], 0)
        veil = result.attention[frame] / strongest
        axes.imshow(veil, extent=extent, cmap="magma", alpha=0.45, vmin=0, vmax=1, interpolation="bilinear")
        axes.set_title(f"{result.times[frame]:.2f} s", fontsize=8)
        axes.set_axis_off()
    axes = drawing.add_subplot(grid[1, :])
    of_frame = result.attention.sum((1, 2))
    axes.bar(range(len(of_frame)), of_frame, color="0.4")
    axes.set_xticks(range(len(of_frame)), [f"{second:.1f}" for second in result.times], fontsize=7)
    axes.set(xlabel="seconds", ylabel="weight")
    best = int(result.probabilities.argmax())
    told = f"{case.case_id}: {case.labels.get('action', 'unknown')}, taken for {classes[best]}"
    told += f" ({result.probabilities[best]:.2f})"
    drawing.suptitle(told, fontsize=9)
    table = pd.DataFrame({"seconds": result.times, "weight": of_frame})
    caption = f"{told}. Where and when the network looked: the weights of its pool, over places and frames."
    return Figure(f"attention-{case.case_id}", pixels(drawing), caption, table, case.case_id)


def draw_worst(cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
    """Strips of the videos whose own class was given the least probability; none where all are right."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    wrong = [case for case in cases if case.case_id in observed and int(observed[case.case_id]["rank"]) > 1]
    told = [(_chance(observed[case.case_id]), case) for case in wrong]
    worst = sorted(told, key=lambda pair: (pair[0], pair[1].case_id))[:_WORST]
    if not worst:
        return []
    drawing = Drawing(figsize=(9, 1.05 * len(worst) + 0.3), dpi=90)
    rows = []
    for number, (chance, case) in enumerate(worst, start=1):
        axes = drawing.add_subplot(len(worst), 1, number)
        seen = observed[case.case_id]
        axes.imshow(_strip(case))
        axes.set_title(
            f"{case.case_id} ({case.group}): {seen['truth']} with {chance:.2f}, taken for {seen['predicted']}",
            fontsize=8,
            loc="left",
        )
        axes.set_axis_off()
        rows.append({"case_id": case.case_id, "group": case.group, "shows": seen["truth"], "probability": chance})
    caption = f"The {len(worst)} videos that were taken for something else most surely, first to last frame."
    return [Figure("worst-clips", pixels(drawing), caption, pd.DataFrame(rows))]


def read_strip(case_id: str, path: Path, times: NDArray[np.float64], *, height: int) -> list[NDArray[np.uint8]]:
    """The frames nearest to some seconds, scaled to a height. Raises `CaseError`."""
    with open_video(path, case_id=case_id, backend="pyav") as video:
        info = video.info
    width = max(1, round(info.width * height / info.height))
    numbers = np.abs(info.times[None] - times[:, None]).argmin(1)
    with open_video(path, case_id=case_id, size=(height, width)) as video:
        return list(video.read(numbers.tolist()).images)


def _chance(seen: Observation) -> float:
    return float(seen[f"probability/{seen['truth']}"])


def _strip(case: Case) -> NDArray[np.uint8]:
    """Eight frames side by side; grey where the video cannot be read any more."""
    path = case.paths["video"]
    try:
        with open_video(path, case_id=case.case_id, backend="pyav") as video:
            last = float(video.info.times[-1])
        return np.concatenate(
            read_strip(case.case_id, path, np.linspace(0, last, _SHOWN), height=_STRIP_HEIGHT), axis=1
        )
    except CaseError:
        return np.full((_STRIP_HEIGHT, _STRIP_HEIGHT * _SHOWN, 3), 128, np.uint8)
