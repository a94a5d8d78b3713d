"""Joints in a video of any length: read in blocks with the frames beside them, spooled to disk as they are found.

    frames → blocks with a margin → persons of all frames of a block in batches → rows of a Parquet file

Memory holds one block of frames and one group of rows, whatever the length of the video.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domains.video.decoding.blocks import blocks
from domains.video.decoding.frames import Frames
from domains.video.decoding.opening import open_video
from domains.video.overlay import OverlayWriter, Person
from domains.video.pose.boxes import Detector, FileBoxes
from domains.video.pose.estimating import FrameClip, FramePose, PoseEstimator
from domains.video.skeletons.joints import JointSet
from pipelines.task import Item, Written

__all__ = ["VideoPoses", "stream_poses", "write_video"]

_TABLE = "poses.parquet"
_PARTS = ("x", "y", "score", "deviation")
"""Columns of a joint; empty where nothing is told."""


@dataclass(frozen=True, eq=False)
class VideoPoses:
    """The joints of a video, on disk.

    Attributes:
        held: The folder that holds them; it goes when this does.
        frames: Frames that were looked at.
        rows: Persons of all frames.
        score: Mean over rows; None where nobody was seen.
        size: Height and width of a frame.
        seconds: Time that it took.
    """

    held: tempfile.TemporaryDirectory[str]
    frames: int
    rows: int
    score: float | None
    size: tuple[int, int]
    seconds: float

    @property
    def table(self) -> Path:
        """The Parquet file: a row for each person of each frame."""
        return Path(self.held.name) / _TABLE

    @classmethod
    def of(cls, item: Item, detector: Detector, estimator: PoseEstimator, *, step: int, block: int) -> VideoPoses:
        """Looks at a whole video. Raises `CaseError` where a frame cannot be decoded, and leaves nothing then."""
        import pyarrow.parquet

        started, held = time.perf_counter(), tempfile.TemporaryDirectory(prefix="pulvinar-pose-")
        frames = rows = 0
        total = 0.0
        schema = _schema(estimator.joints)
        with ExitStack() as undone:
            undone.callback(held.cleanup)
            with (
                open_video(item.paths[0], case_id=item.item_id) as video,
                pyarrow.parquet.ParquetWriter(Path(held.name) / _TABLE, schema) as writer,
            ):
                if isinstance(detector, FileBoxes):
                    detector.require_frames(video.info.frames)
                size = (video.info.height, video.info.width)
                for part, poses in stream_poses(video, detector, estimator, step=step, block=block):
                    told = list(_rows(part, poses, estimator.joints))
                    writer.write_table(pyarrow.Table.from_pylist(told, schema=schema))
                    frames, rows = frames + len(poses), rows + len(told)
                    total += sum(row["score"] for row in told)
            undone.pop_all()
        score = round(total / rows, 4) if rows else None
        return cls(held, frames, rows, score, size, time.perf_counter() - started)


def stream_poses(
    video: Any, detector: Detector, estimator: PoseEstimator, *, step: int, block: int
) -> Iterator[tuple[Frames, list[FramePose]]]:
    """The frames of a video in blocks, each once, with what was seen in them.

    The clip of a frame holds those around it, from other blocks too; at the ends the last one there is repeats.

    Args:
        video: An open video.
        detector: Finds persons.
        estimator: Finds joints.
        step: Frames from one of a clip to the next.
        block: Frames looked at together.
    """
    half = estimator.given.frames // 2
    margin, last = half * step, video.info.frames - 1
    done = 0
    for part in blocks(video, block + 2 * margin, overlap=2 * margin):
        first = int(part.indices[0])
        # The frames of the margin at the end are looked at with the next block, unless the video ends here.
        stop = last + 1 if int(part.indices[-1]) == last else int(part.indices[-1]) + 1 - margin
        clips = []
        for frame in range(done, stop):
            around = [min(max(frame + offset * step, 0), last) - first for offset in range(-half, half + 1)]
            picture = part.images[frame - first]
            clips.append(FrameClip([part.images[at] for at in around], detector(picture, frame)))
        own = slice(done - first, stop - first)
        yield Frames(part.images[own], part.times[own], part.indices[own], part.backend), estimator(clips)
        done = stop


def write_video(item: Item, result: VideoPoses, joints: JointSet, folder: Path, *, overlay: bool) -> Written:
    """The table, a summary, and the video with the skeletons drawn in, which is decoded again for it."""
    import shutil

    table, told = folder / f"{item.item_id}.parquet", folder / f"{item.item_id}.json"
    shutil.copyfile(result.table, table)
    files = [table, told]
    summary: dict[str, Any] = {
        "frames": result.frames,
        "rows": result.rows,
        "score": result.score,
        "frames_per_second": round(result.frames / max(result.seconds, 1e-9), 2),
    }
    described = {"item": item.item_id, "size": list(result.size), "joints": list(joints.joints), **summary}
    told.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    if overlay:
        files.append(folder / f"{item.item_id}.overlay.mp4")
        _draw(item, result, joints, files[-1])
    result.held.cleanup()
    return Written(tuple(files), summary)


def _draw(item: Item, result: VideoPoses, joints: JointSet, path: Path) -> None:
    with (
        open_video(item.paths[0], case_id=item.item_id) as video,
        OverlayWriter(path, result.size, joints=joints) as out,
    ):
        persons = _persons_by_frame(result.table, joints)
        number, waiting = next(persons, (-1, []))
        for frame in video.stream():
            shown: Sequence[Person] = []
            if frame.index == number:
                shown = waiting
                number, waiting = next(persons, (-1, []))
            out.add(frame.image, frame.time, persons=shown)


def _persons_by_frame(table: Path, joints: JointSet) -> Iterator[tuple[int, list[Person]]]:
    """Frame number → who is drawn there, in order, for frames with anyone; a group of rows at a time."""
    import pyarrow.parquet

    number = -1
    waiting: list[Person] = []
    with pyarrow.parquet.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                if row["frame"] != number and waiting:
                    yield number, waiting
                    waiting = []
                number = row["frame"]
                places = [[row[f"{name}_x"], row[f"{name}_y"]] for name in joints.joints]
                points = np.array(places, np.float64)  # what is not told becomes NaN and is not drawn
                sure = np.array([row[f"{name}_score"] for name in joints.joints])
                waiting.append(Person(points, sure, name=row["track"]))
    if waiting:
        yield number, waiting


def _schema(joints: JointSet) -> Any:
    import pyarrow

    numbers = ("seconds", "left", "top", "width", "height", "score")
    return pyarrow.schema(
        [
            ("frame", pyarrow.int64()),
            ("person", pyarrow.int32()),
            ("track", pyarrow.string()),
            *((name, pyarrow.float64() if name == "seconds" else pyarrow.float32()) for name in numbers),
            *((f"{joint}_{part}", pyarrow.float32()) for joint in joints.joints for part in _PARTS),
        ]
    )


def _rows(part: Frames, poses: Sequence[FramePose], joints: JointSet) -> Iterator[dict[str, Any]]:
    for frame, seconds, pose in zip(part.indices, part.times, poses, strict=True):
        for person, found in enumerate(pose.boxes):
            left, top, width, height = found.box
            row: dict[str, Any] = {"frame": int(frame), "person": person, "track": found.track}
            row |= {"seconds": float(seconds), "left": left, "top": top, "width": width, "height": height}
            row["score"] = float(pose.sureness[person])
            for place, joint in enumerate(joints.joints):
                x, y = (float(value) for value in pose.points[person, place])
                told = (x, y, float(pose.scores[person, place]), float(pose.deviations[person, place]))
                row |= {
                    f"{joint}_{part}": value if value == value else None
                    for part, value in zip(_PARTS, told, strict=True)
                }
            yield row
