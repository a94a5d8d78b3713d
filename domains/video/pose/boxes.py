"""Where persons are: boxes from the whole picture, from a file beside it, or from any detector.

A detector is anything that is called with a picture and the number of its frame and answers with boxes:

    def detector(picture: NDArray[np.uint8], frame: int) -> Sequence[FoundBox]: ...
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.crops import Box, lies_outside, whole_box
from pipelines.errors import CaseError

__all__ = ["Detector", "FileBoxes", "FoundBox", "WholePicture", "boxes_beside", "with_boxes"]

ENDING = ".boxes.json"


@dataclass(frozen=True)
class FoundBox:
    """A person that was found.

    Attributes:
        box: Left, top, width, height, in pixels.
        score: How sure its finder is, 0 to 1.
        track: Which person of the video it is; empty where nobody knows.
        whole: Whether it is the whole picture, which is cut without a margin.
    """

    box: Box
    score: float = 1.0
    track: str = ""
    whole: bool = False


class Detector(Protocol):
    """What finds persons."""

    def __call__(self, picture: NDArray[np.uint8], frame: int) -> Sequence[FoundBox]:
        """Boxes in a picture `(h, w, 3)` uint8 RGB, frame `frame` of its video (0 for a picture); may be none."""


class WholePicture:
    """One person, who may be anywhere in the picture."""

    def __call__(self, picture: NDArray[np.uint8], frame: int) -> tuple[FoundBox, ...]:
        return (FoundBox(whole_box(*picture.shape[:2]), whole=True),)


class FileBoxes:
    """Boxes by frame, from a file.

    `[[left, top, width, height], …]` for a picture, `{"0": [[…], …], "7": […]}` for frames of a video; a fifth number
    is a score. Where a box has a name, an object stands in its place: `{"box": […], "score": 0.9, "track": "a"}`.

    Args:
        path: The JSON.
        case_id: What errors name.

    Raises:
        CaseError: It cannot be read, or holds something else.
    """

    def __init__(self, path: Path, case_id: str) -> None:
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CaseError(case_id, f"{path.name} cannot be read: {error}", hint="It is JSON of boxes.") from error
        frames: Mapping[str, Any] = {"0": held} if isinstance(held, list) else held
        if not isinstance(frames, dict) or not all(name.isdecimal() for name in frames):
            raise CaseError(case_id, f"{path.name}: expected a list of boxes, or frame number → list of boxes")
        self._named = (path.name, case_id)
        if wrong := [name for name, boxes in frames.items() if not isinstance(boxes, list)]:
            raise CaseError(case_id, f"{path.name}, frame {wrong[0]}: expected a list of boxes")
        self._frames = {
            int(name): tuple(_box(path, case_id, name, one) for one in boxes) for name, boxes in frames.items()
        }

    def require_frames(self, frames: int) -> None:
        """Raises `CaseError` where there are boxes of a frame that a video of so many frames does not have."""
        if beyond := [frame for frame, boxes in self._frames.items() if boxes and frame >= frames]:
            file, case_id = self._named
            raise CaseError(
                case_id,
                f"{file} has boxes of frame {beyond[0]}; there are {frames} frames, counted from 0",
                hint="Is it the file of another video?",
            )

    def __call__(self, picture: NDArray[np.uint8], frame: int) -> tuple[FoundBox, ...]:
        """Raises `CaseError` where a box lies outside of the picture, in which nobody can be found then."""
        height, width = picture.shape[:2]
        boxes = self._frames.get(frame, ())
        for box in (one.box for one in boxes):
            if lies_outside(box, height, width):
                file, case_id = self._named
                raise CaseError(
                    case_id,
                    f"{file}, frame {frame}: box {list(box)} lies outside of its {width} × {height} pixels",
                    hint="Boxes are [left, top, width, height] in pixels of the upright picture.",
                )
        return boxes


def with_boxes(path: Path) -> tuple[Path, ...]:
    """A picture or video, and `NAME.boxes.json` where that lies beside it: what its poses depend on."""
    beside = path.with_name(path.stem + ENDING)
    return (path, beside) if beside.is_file() else (path,)


def boxes_beside(path: Path, case_id: str) -> Detector:
    """The boxes in `NAME.boxes.json` beside a picture or video, or the whole picture where there is no such file."""
    _, *beside = with_boxes(path)
    return FileBoxes(beside[0], case_id) if beside else WholePicture()


def _box(path: Path, case_id: str, frame: str, given: Any) -> FoundBox:
    try:
        told = given if isinstance(given, dict) else {"box": given[:4], "score": given[4] if len(given) > 4 else 1.0}
        left, top, width, height = (float(value) for value in told["box"])
        score = float(told.get("score", 1.0))
    except (KeyError, TypeError, ValueError) as error:
        raise CaseError(
            case_id, f"{path.name}, frame {frame}: {given!r} is no box", hint="[left, top, width, height]"
        ) from error
    if not (width > 0 and height > 0 and all(map(math.isfinite, (left, top, width, height, score)))):
        raise CaseError(case_id, f"{path.name}, frame {frame}: box {told['box']} is empty or not finite")
    return FoundBox((left, top, width, height), score, str(told.get("track", "")))
