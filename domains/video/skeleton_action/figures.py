"""Pictures: which joints counted when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.action.figures import pixels
from domains.video.skeleton_action.predictor import ActionPrediction
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case
from pipelines.task import Figure

__all__ = ["draw_clip"]

_POSES = 6


def draw_clip(case: Case, result: ActionPrediction, joints: JointSet, classes: Sequence[str]) -> Figure:
    """The most important person: poses with joints as large as they count, and joints × frames below."""
    import pandas as pd
    from matplotlib.figure import Figure as Drawing

    person = int(result.pose.any((2, 3)).sum(1).argmax())
    importance, pose = result.importance[person], result.pose[person]  # (T, J), (T, J, D)
    frames = len(importance)
    drawing = Drawing(figsize=(8.6, 6), dpi=90)
    grid = drawing.add_gridspec(3, _POSES + 1, height_ratios=(1, 0.35, 1.4))
    for column, frame in enumerate(np.linspace(0, frames - 1, _POSES).round().astype(int)):
        axes = drawing.add_subplot(grid[0, column])
        _draw_pose(axes, pose[frame], importance[frame] / max(float(importance.max()), 1e-12), joints)
        axes.set_title(f"frame {frame}", fontsize=8)
    _draw_importance(drawing, grid, importance, joints)
    best = int(result.probabilities.argmax())
    told = f"{case.case_id}: {case.labels.get('action', 'unknown')}, taken for {classes[best]}"
    told += f" ({result.probabilities[best]:.2f})"
    drawing.suptitle(told, fontsize=9)
    table = pd.DataFrame(importance, columns=list(joints.joints)).rename_axis("frame").reset_index()
    caption = (
        f"{told}. Where and when the network looked: the weights of its pool, over joints and frames, and their sums."
    )
    return Figure(f"importance-{case.case_id}", pixels(drawing), caption, table, case.case_id)


def _draw_importance(drawing: Any, grid: Any, importance: NDArray[np.float32], joints: JointSet) -> None:
    """Joints × frames; what each frame counts above, and what each joint counts on the right."""
    body = drawing.add_subplot(grid[2, :_POSES])
    body.imshow(importance.T, aspect="auto", cmap="magma", interpolation="nearest", vmin=0)
    body.set_yticks(range(len(joints)), joints.joints, fontsize=6)
    body.set(xlabel="frame")
    over_time = drawing.add_subplot(grid[1, :_POSES], sharex=body)
    over_time.fill_between(range(len(importance)), importance.sum(1), step="mid", color="0.55", linewidth=0)
    over_time.set_ylim(bottom=0)
    over_time.set_ylabel("of a frame", fontsize=7)
    over_time.tick_params(labelbottom=False, labelsize=6)
    of_joint = drawing.add_subplot(grid[2, _POSES], sharey=body)
    of_joint.barh(range(len(joints)), importance.sum(0), color="0.55")
    of_joint.set_xlabel("of a joint", fontsize=7)
    of_joint.tick_params(labelleft=False, labelsize=6)


def _draw_pose(axes: Any, pose: NDArray[np.float32], weight: NDArray[np.float32], joints: JointSet) -> None:
    """The first two axes; pictures count rows downwards, three axes have the second one upright."""
    seen = np.asarray(pose.any(1))
    for first, second in joints.bones:
        ends = [joints.joints.index(first), joints.joints.index(second)]
        if seen[ends].all():
            axes.plot(pose[ends, 0], pose[ends, 1], color="0.6", linewidth=1)
    axes.scatter(pose[seen, 0], pose[seen, 1], s=4 + 60 * weight[seen], c=weight[seen], cmap="magma", vmin=0, vmax=1)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    if pose.shape[1] == 2:
        axes.invert_yaxis()
