"""Pictures: where and when a network looked, and strips of the videos that were judged worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.video.action.figures import pixels
from domains.video.clip_action.writing import joint_table
from domains.video.decoding import open_video
from domains.video.skeletons.joints import JointSet
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


def draw_video(case: Case, result: ClipPrediction, classes: Sequence[str], joints: JointSet | None = None) -> Figure:
    """Frames of the clip that is surest and what counted in each: a veil over places, or joints as large as they count.

    Below stands how much each frame counted and, of poses, each joint in each frame.
    """
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    of_joints = joints if result.joints is not None else None
    chosen = np.unique(np.linspace(0, len(result.times) - 1, min(_SHOWN, len(result.times))).round().astype(int))
    images = read_strip(case.case_id, result.path, result.times[chosen], height=160)
    drawing = Drawing(figsize=(10, 3.4 if of_joints is None else 5.4), dpi=90)
    heights = (1.5, 1) if of_joints is None else (1.5, 0.6, 1.8)
    grid = drawing.add_gridspec(len(heights), len(chosen), height_ratios=heights)
    for column, (frame, image) in enumerate(zip(chosen, images, strict=True)):
        axes = drawing.add_subplot(grid[0, column])
        axes.imshow(image)
        if of_joints is None:
            _draw_veil(axes, image.shape, result, frame)
        else:
            _draw_poses(axes, image.shape, result, frame, of_joints)
        axes.set_title(f"{result.times[frame]:.2f} s", fontsize=8)
        axes.set_axis_off()
    of_frame = result.attention.sum((1, 2)) if result.joints is None else result.joints.sum((1, 2))
    axes = drawing.add_subplot(grid[1, :])
    axes.bar(range(len(of_frame)), of_frame, color="0.4")
    axes.set_xticks(range(len(of_frame)), [f"{second:.1f}" for second in result.times], fontsize=7)
    axes.set(xlabel="seconds" if of_joints is None else "", ylabel="weight", xlim=(-0.5, len(of_frame) - 0.5))
    table = pd.DataFrame({"seconds": result.times, "weight": of_frame})
    looked = "over places and frames"
    if of_joints is not None:
        _draw_joints(drawing.add_subplot(grid[2, :]), result, of_joints)
        table, looked = joint_table(result, of_joints), "over joints and frames"
    best = int(result.probabilities.argmax())
    told = f"{case.case_id}: {case.labels.get('action', 'unknown')}, taken for {classes[best]}"
    told += f" ({result.probabilities[best]:.2f})"
    drawing.suptitle(told, fontsize=9)
    caption = f"{told}. Where and when the network looked: the weights of its pool, {looked}."
    return Figure(f"attention-{case.case_id}", pixels(drawing), caption, table, case.case_id)


def _draw_veil(axes: Any, shape: Sequence[int], result: ClipPrediction, frame: int) -> None:
    """What counted in a frame, over the part of it that the network looked at."""
    height, width = shape[:2]
    left, top, right, bottom = result.cut
    veil = result.attention[frame] / max(float(result.attention.max()), 1e-12)
    extent = (left * width, right * width, bottom * height, top * height)
    axes.imshow(veil, extent=extent, cmap="magma", alpha=0.45, vmin=0, vmax=1, interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _draw_poses(axes: Any, shape: Sequence[int], result: ClipPrediction, frame: int, joints: JointSet) -> None:
    """Skeletons of a frame, joints as large and as bright as they count."""
    assert result.pose is not None
    assert result.joints is not None
    strongest = max(float(result.joints.max()), 1e-12)
    for pose, weight in zip(result.pose[frame], result.joints[frame] / strongest, strict=True):
        seen = pose[:, 2] > 0
        x, y = pose[:, 0] * shape[1], pose[:, 1] * shape[0]
        for first, second in joints.bones:
            ends = [joints.joints.index(first), joints.joints.index(second)]
            if seen[ends].all():
                axes.plot(x[ends], y[ends], color="white", linewidth=0.8)
        axes.scatter(x[seen], y[seen], s=3 + 40 * weight[seen], c=weight[seen], cmap="magma", vmin=0, vmax=1)
    axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0))


def _draw_joints(axes: Any, result: ClipPrediction, joints: JointSet) -> None:
    """Joints × frames, persons summed up; a joint's name tells its share of the whole."""
    assert result.joints is not None
    weights = result.joints.sum(1).T  # (J, T)
    axes.imshow(weights, aspect="auto", cmap="magma", interpolation="nearest", vmin=0)
    shares = [f"{name} {share:.0%}" for name, share in zip(joints.joints, weights.sum(1), strict=True)]
    axes.set_yticks(range(len(joints)), shares, fontsize=6)
    axes.set_xticks(range(len(result.times)), [f"{second:.1f}" for second in result.times], fontsize=7)
    axes.set_xlabel("seconds")


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
