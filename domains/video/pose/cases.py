"""Cases of labelled pictures, the parts that the order of frames makes, and the frames beside each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from domains.video.pose.formats import read_coco, read_deeplabcut, read_lsp
from domains.video.pose.labels import LabelledFrame, LabelledSet, SequenceFrame
from domains.video.pose.settings import DataSettings, InputSettings, LastFrames
from domains.video.skeletons.joints import JointSet
from domains.video.skeletons.opening import find_joints
from pipelines.caseids import common_root, identifier_problem, normal_identifier, some
from pipelines.cases import Case, CaseTable
from pipelines.errors import ConfigurationError, DataError

__all__ = ["clip_paths", "held_labels", "last_frames", "pose_table"]


def held_labels(data: DataSettings) -> LabelledSet:
    """The pictures that a workflow names; an unchanged file is read once. Raises `DataError`."""
    try:
        changed = data.file.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{data.file} cannot be read: {error.strerror or error}", hint="Check data.file.") from error
    return _held(data.format, data.file, changed, data.images, data.joints)


@lru_cache(maxsize=4)
def _held(kind: str, path: Path, _: int, images: Path | None, named: str) -> LabelledSet:
    joints: JointSet | None = find_joints(named) if named else None
    if kind == "deeplabcut":
        return read_deeplabcut(path, joints, images)
    if kind == "coco":
        return read_coco(path, images or path.parent, joints)
    if joints is None:
        raise ConfigurationError("data.joints: the format lsp does not say which joints it holds; name a set")
    return read_lsp(path, images or path.parent, joints)


def pose_table(found: LabelledSet, data: DataSettings) -> tuple[CaseTable, dict[str, LabelledFrame]]:
    """A case for each labelled picture, and which one it is.

    Raises:
        DataError: There is no labelled picture, or a name stands twice or cannot be one of a file.
    """
    if not found.frames:
        raise DataError(f"{data.file.name} labels no picture")
    if twice := [name for name, count in Counter(one.name for one in found.frames).items() if count > 1]:
        raise DataError(f"{data.file.name}: names of pictures stand more than once: {some(twice)}")
    parts = last_frames(found.frames, data.last) if data.last else {}
    cases, frames = [], {}
    for one in found.frames:
        case_id = normal_identifier(one.name)
        if problem := identifier_problem(case_id):
            raise DataError(f"{data.file.name}: {problem}")
        group = one.sequence if data.group == "sequence" else case_id
        cases.append(Case(case_id, group, {"image": one.path}, {}, parts.get(one.name, one.split)))
        frames[case_id] = one
    root = common_root(data.file.parent, [one.path for one in found.frames])
    return CaseTable(tuple(cases), root, data.file.stem), frames


def last_frames(frames: Sequence[LabelledFrame], settings: LastFrames) -> dict[str, str]:
    """Name → part, by the order within each sequence. Raises `DataError` where a sequence is too short."""
    by_sequence: dict[str, list[LabelledFrame]] = defaultdict(list)
    for one in frames:
        by_sequence[one.sequence].append(one)
    parts = {}
    for name, members in by_sequence.items():
        ordered = sorted(members, key=lambda one: one.number)
        test = max(1, round(settings.test * len(ordered)))
        validation = round(settings.validation * (len(ordered) - test))
        train = len(ordered) - test - validation
        if train < 1:
            raise DataError(f"sequence {name} has {len(ordered)} labelled frames: too few for data.last")
        for at, one in enumerate(ordered):
            parts[one.name] = "train" if at < train else "validation" if at < train + validation else "test"
    return parts


def clip_paths(
    frame: LabelledFrame,
    sequences: Mapping[str, Sequence[SequenceFrame]],
    given: InputSettings,
    *,
    allowed: frozenset[Path] | None = None,
) -> tuple[Path, ...]:
    """The pictures of the clip around a labelled one, which is in the middle.

    A neighbour is the picture of the sequence whose number is nearest to the one wanted, on the right side of the key
    frame and off by less than `reach`; where there is none, the nearer frame of the clip is shown again.

    Args:
        frame: The key frame.
        sequences: All pictures by sequence.
        given: How many frames, how far apart.
        allowed: Which pictures may be shown beside it, where not all may: those of its own part.
    """
    around = [one for one in sequences.get(frame.sequence, ()) if allowed is None or one.path in allowed]
    sides = []
    for sign in (-1, 1):
        side, last = [], frame.path
        for distance in range(1, given.frames // 2 + 1):
            wanted = frame.number + sign * distance * given.step
            near = [one for one in around if (one.number - frame.number) * sign > 0]
            near = [one for one in near if abs(one.number - wanted) < given.reach]
            last = min(near, key=lambda one: (abs(one.number - wanted), one.number)).path if near else last
            side.append(last)
        sides.append(side)
    return (*reversed(sides[0]), frame.path, *sides[1])
