"""Videos of three blobs whose joints are known: the pixels are the same for both actions, only the joints tell which.

One blob moves to and fro and two stand still. In `nod` the one that moves is the head, in `wave` it is the left hand.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domains.video.skeletons.joints import JointSet
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, save_skeletons

HEIGHT, WIDTH, RATE, FRAMES = 32, 48, 10, 12
PUPPET = JointSet(
    "puppet",
    ("head", "left_hand", "right_hand"),
    (("left_hand", "right_hand"),),
    (("head", "left_hand"), ("head", "right_hand")),
    ("head",),
)
_RADIUS = 3


def blob_places(seed: int, frames: int = FRAMES) -> NDArray[np.float32]:
    """Middles `(frames, 3, 2)` in pixels of the blob that moves, and of two that do not."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation([6, 16, 26])
    places = np.zeros((frames, 3, 2), np.float32)
    places[..., 0] = rng.integers(8, 26, 3)
    places[..., 1] = rows
    places[:, 0, 0] += 7 * (np.arange(frames) % 3)
    return places


def write_blobs(path: Path, places: NDArray[np.float32], *, rate: int = RATE, turned: bool = False) -> Path:
    """A video `HEIGHT` × `WIDTH` (or the other way round) of white discs."""
    import av

    height, width = (WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH)
    rows, columns = np.mgrid[:height, :width]
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=rate, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, blobs in enumerate(places):
            image = np.full((height, width, 3), 40, np.uint8)
            for column, row in blobs:
                image[(rows - row) ** 2 + (columns - column) ** 2 <= _RADIUS**2] = 230
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def joints_of_blobs(places: NDArray[np.float32], action: str) -> NDArray[np.float32]:
    """The joints `(frames, 3, 2)` of `PUPPET`: which blob is which."""
    return places[:, [0, 1, 2] if action == "nod" else [1, 0, 2]]


def sequence_of(name: str, places: NDArray[np.float32], action: str) -> SkeletonSequence:
    """One person of a video, seen throughout."""
    pose = joints_of_blobs(places, action)[None]
    return SkeletonSequence(name, pose, np.ones(pose.shape[:3], np.float32), size=(HEIGHT, WIDTH))


def write_npz(path: Path, *sequences: SkeletonSequence) -> Path:
    """The common layout."""
    save_skeletons(SkeletonSet(PUPPET, sequences), path)
    return path


def write_pose_table(path: Path, places: NDArray[np.float32], action: str, *, rate: int = RATE) -> Path:
    """The table and the JSON that a pose model leaves of a video."""
    pose = joints_of_blobs(places, action)
    columns: dict[str, Any] = {"frame": np.arange(len(pose)), "person": 0, "track": ""}
    columns["seconds"] = np.arange(len(pose)) / rate
    for at, joint in enumerate(PUPPET.joints):
        columns |= {f"{joint}_x": pose[:, at, 0], f"{joint}_y": pose[:, at, 1], f"{joint}_score": 0.9}
    pd.DataFrame(columns).to_parquet(path, index=False)
    told = {"frames": len(pose), "size": [HEIGHT, WIDTH], "joints": list(PUPPET.joints)}
    path.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    return path


def write_puppets(root: Path, pairs: int = 6) -> Path:
    """`pairs` videos twice, as `nod` and as `wave`, with a `.npz` beside each, and `clips.csv`. Returns the table."""
    rows = []
    for number in range(pairs):
        places = blob_places(number)
        for action in ("nod", "wave"):
            name = f"{action}_{number:02d}"
            write_blobs(root / f"{name}.mp4", places)
            write_npz(root / f"{name}.npz", sequence_of(name, places, action))
            rows.append({"video": f"{name}.mp4", "action": action, "group": f"s{number}", "skeleton": f"{name}.npz"})
    pd.DataFrame(rows).to_csv(root / "clips.csv", index=False)
    return root / "clips.csv"
