"""What is left of a prediction: JSON with a time line, a table of clips, and a video with the time line below it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.windows import Segment, merge_windows
from domains.video.decoding import open_video
from domains.video.overlay.persons import Person
from domains.video.overlay.timeline import most_likely
from domains.video.overlay.writer import OverlayWriter
from domains.video.skeletons.joints import JointSet
from pipelines.task import Written

if TYPE_CHECKING:
    import pandas as pd

    from domains.video.clip_action.poses import PoseTrack
    from domains.video.clip_action.predictor import ClipPrediction

__all__ = ["joint_table", "summarise", "time_line", "write_prediction"]

_MOST_ROWS = 6
"""Classes that the time line of a video shows."""
_MOST_JOINTS = 3


def summarise(result: ClipPrediction, classes: Sequence[str]) -> dict[str, Any]:
    """Class, probabilities, and how many clips or windows they rest on: plain values."""
    return {
        "predicted": classes[int(result.probabilities.argmax())],
        "probabilities": _named(result.probabilities, classes),
        "frames": result.frames,
        "looked_at": "windows" if result.windowed else "views",
        "clips": len(result.parts),
        "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
    }


def time_line(segments: Sequence[Segment], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Stretches of one most likely class: `start`, `stop` in seconds, `action`, and its mean `probability`."""
    made: list[dict[str, Any]] = []
    for segment in segments:
        place = int(segment.probabilities.argmax())
        length, chance = segment.stop - segment.start, float(segment.probabilities[place])
        if made and made[-1]["action"] == classes[place]:
            before = made[-1]["stop"] - made[-1]["start"]
            made[-1]["probability"] = (made[-1]["probability"] * before + chance * length) / max(before + length, 1e-9)
            made[-1]["stop"] = segment.stop
        else:
            made.append({"start": segment.start, "stop": segment.stop, "action": classes[place], "probability": chance})
    return [{name: round(v, 6) if isinstance(v, float) else v for name, v in one.items()} for one in made]


def write_prediction(
    item_id: str,
    result: ClipPrediction,
    classes: Sequence[str],
    folder: Path,
    *,
    timeline: bool,
    joints: JointSet | None = None,
) -> Written:
    """Writes the files of one video.

    Args:
        item_id: Their name.
        result: What was predicted.
        classes: Names.
        folder: Where to.
        timeline: Whether a long video is written with its time line.
        joints: Joints of its poses, where these were looked at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(result, classes) | _of_joints(result, joints)
    segments = merge_windows(result.spans, result.parts) if result.windowed else []
    told = {"item": item_id, **summary}
    if result.windowed:
        told["timeline"] = time_line(segments, classes)
    files = [folder / f"{item_id}.json", folder / f"{item_id}.windows.parquet"]
    files[0].write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_table(result, classes, files[1])
    if result.joints is not None and joints is not None:
        files.append(folder / f"{item_id}.joints.csv")
        joint_table(result, joints).to_csv(files[-1], index=False, float_format="%.6g", lineterminator="\n")
    if result.windowed and timeline:
        files.append(folder / f"{item_id}.timeline.mp4")
        _write_video(item_id, result, segments, classes, files[-1], joints)
    return Written(tuple(files), summary)


def joint_table(result: ClipPrediction, joints: JointSet) -> pd.DataFrame:
    """A row for each frame of the surest clip and each person: `seconds`, `person`, and how much each joint counted."""
    import pandas as pd

    assert result.joints is not None
    persons = result.joints.shape[1]
    seconds, person = np.repeat(result.times, persons), np.tile(np.arange(persons), len(result.times))
    weights = pd.DataFrame(result.joints.reshape(-1, len(joints)), columns=list(joints.joints))
    return pd.concat([pd.DataFrame({"seconds": seconds, "person": person}), weights], axis=1)


def _of_joints(result: ClipPrediction, joints: JointSet | None) -> dict[str, Any]:
    """The joints that counted most, and the share of joints that was seen in the surest clip."""
    if result.joints is None or result.pose is None or joints is None:
        return {}
    most = np.argsort(-result.joints.sum((0, 1)), kind="stable")[:_MOST_JOINTS]
    seen = float((result.pose[..., 2] > 0).mean())
    return {"most_important": [joints.joints[place] for place in most], "joints_seen": round(seen, 4)}


def _write_table(result: ClipPrediction, classes: Sequence[str], path: Path) -> None:
    """A row for each clip: `start`, `stop`, `action`, and a column `probability/CLASS` for each class."""
    import pandas as pd

    columns: dict[str, Any] = {
        "start": result.spans[:, 0],
        "stop": result.spans[:, 1],
        "action": [classes[int(place)] for place in result.parts.argmax(1)],
    }
    columns |= {f"probability/{name}": result.parts[:, place] for place, name in enumerate(classes)}
    pd.DataFrame(columns).to_parquet(path, index=False)


def _write_video(
    item_id: str,
    result: ClipPrediction,
    segments: Sequence[Segment],
    classes: Sequence[str],
    path: Path,
    joints: JointSet | None,
) -> None:
    """The video with its time line below and, where there are poses, its skeletons drawn in."""
    shown = most_likely(classes, result.parts, _MOST_ROWS)
    with open_video(result.path, case_id=item_id) as video:
        size = (video.info.height, video.info.width)
        with OverlayWriter(path, size, joints=joints, classes=shown, duration=float(video.info.times[-1])) as overlay:
            for segment in segments:
                overlay.mark(segment.start, segment.stop, _named(segment.probabilities, classes))
            for frame in video.stream():
                persons = _persons(result.track, frame.index, size) if joints else []
                overlay.add(frame.image, frame.time, persons=persons)


def _persons(track: PoseTrack | None, frame: int, size: tuple[int, int]) -> list[Person]:
    """Who is seen in a frame of this height and width."""
    if track is None:
        return []
    poses = track.at(np.array(frame))  # (P, J, 3)
    return [Person(one[:, :2] * size[::-1] - 0.5, one[:, 2]) for one in poses if one[:, 2].any()]


def _named(probabilities: NDArray[np.float64], classes: Sequence[str]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(classes, probabilities, strict=True)}
