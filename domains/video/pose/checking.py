"""Whether a labelled picture can be used: it, and the frames beside it, are opened once before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domains.video.pose.crops import lies_outside
from domains.video.pose.labels import LabelledFrame
from domains.video.pose.samples import trainable
from domains.video.pose.settings import InputSettings
from pipelines.errors import CaseError
from pipelines.pictures import read_picture

__all__ = ["check_frame"]


def check_frame(case_id: str, frame: LabelledFrame, clip: Sequence[Path], given: InputSettings) -> dict[str, Any]:
    """Height, width and persons of a picture.

    Args:
        case_id: What errors name.
        frame: The labels.
        clip: The picture and the frames beside it.
        given: Where persons are looked for.

    Raises:
        CaseError: A picture cannot be read, or has another size than the one it is shown beside; nobody is labelled;
            there are more persons than are looked for, or somebody is outside of the picture.
    """
    sizes = {read_picture(path, case_id).shape[:2] for path in dict.fromkeys(clip)}
    if len(sizes) > 1:
        raise CaseError(case_id, "frames of its clip have several sizes", hint="Set input.frames to 1.")
    ((height, width),) = sizes
    persons = trainable(frame)
    if not persons:
        raise CaseError(case_id, "no joint of anybody is labelled in it", hint="Label it, or leave it out.")
    if given.boxes == "whole" and len(frame.persons) > 1:
        reason = f"{len(frame.persons)} persons in a picture that is looked at as a whole"
        raise CaseError(case_id, reason, hint="Set input.boxes=labels.")
    if given.boxes == "labels" and any(one.box is None and one.known.sum() < 2 for one in persons):
        reason = "one joint is labelled, and no box: nothing says how large the cut around it is"
        raise CaseError(case_id, reason, hint="Label more of it, or set input.boxes=whole.")
    for box in (one.own_box for one in persons):
        if lies_outside(box, height, width):
            told = [round(value, 1) for value in box]
            raise CaseError(
                case_id, f"box {told} lies outside of its {width} × {height} pixels", hint="Mend its label."
            )
    return {"height": height, "width": width, "persons": len(persons)}
