"""Sets of joints: names in order, mirror images, how they hang together, and how exactly they are known.

    jhmdb = joint_set("jhmdb15")
    jhmdb.mirror                    # for each joint, the joint it becomes when left and right are swapped
    jhmdb.parents                   # for each joint, the one before it on the way from the root

Two skeletons may only be compared when their joints are the same in the same order; `require_same` says where not.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipelines.errors import ConfigurationError, DataError

__all__ = [
    "JointSet",
    "JointSetMismatch",
    "joint_set",
    "joint_set_names",
    "known_joints",
    "mirrored_by_name",
    "require_same",
]


class JointSetMismatch(DataError):
    """Skeletons of one set of joints were given where another is needed."""


@dataclass(frozen=True)
class JointSet:
    """A set of joints.

    Attributes:
        name: How it is called.
        joints: Names, in the order in which data hold them.
        flip: Pairs of joints (names) that are each other's mirror image; all others are their own.
        bones: Pairs of joints (names) that are joined.
        centre: Joints whose mean is the middle of the body; the first of them is the root of `parents`.
        sigmas: Deviation of each joint for object keypoint similarity, as a share of the object's scale (COCO's, not
            doubled); empty where nobody measured any.
        source: Where order and sigmas are from.

    Raises:
        ValueError: A joint stands twice, or a pair, bone or centre names one that is not there.
    """

    name: str
    joints: tuple[str, ...]
    flip: tuple[tuple[str, str], ...] = ()
    bones: tuple[tuple[str, str], ...] = ()
    centre: tuple[str, ...] = ()
    sigmas: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if len(self.joints) < 2 or len(set(self.joints)) < len(self.joints):
            raise ValueError(f"joint set {self.name}: {len(self.joints)} joints; allowed are two or more, each once")
        named = [joint for pair in (*self.flip, *self.bones) for joint in pair] + list(self.centre)
        if unknown := sorted(set(named) - set(self.joints)):
            raise ValueError(
                f"joint set {self.name} has no joint {', '.join(unknown)}; it has {', '.join(self.joints)}"
            )
        mirrored = [joint for pair in self.flip for joint in pair]
        if len(set(mirrored)) < len(mirrored):
            raise ValueError(f"joint set {self.name}: a joint stands in two flip pairs")
        if self.sigmas and (len(self.sigmas) != len(self.joints) or min(self.sigmas) <= 0):
            raise ValueError(f"joint set {self.name}: {len(self.sigmas)} sigmas for {len(self.joints)} joints, above 0")

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint the place of its mirror image."""
        other = {a: b for pair in self.flip for a, b in (pair, pair[::-1])}
        return tuple(self.joints.index(other.get(joint, joint)) for joint in self.joints)

    @cached_property
    def centre_places(self) -> tuple[int, ...]:
        """Places of the centre; all joints where none is named."""
        return tuple(self.joints.index(joint) for joint in self.centre or self.joints)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """For each joint the place of the one before it on the shortest way from the root; a root is its own."""
        beside: dict[int, list[int]] = {place: [] for place in range(len(self.joints))}
        for first, second in self.bones:
            a, b = self.joints.index(first), self.joints.index(second)
            beside[a].append(b)
            beside[b].append(a)
        found: dict[int, int] = {}
        for root in (self.centre_places[0], *range(len(self.joints))):
            if root in found:
                continue
            found[root] = root
            waiting = deque([root])
            while waiting:
                here = waiting.popleft()
                for there in beside[here]:
                    if there not in found:
                        found[there] = here
                        waiting.append(there)
        return tuple(found[place] for place in range(len(self.joints)))

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "flip": [list(pair) for pair in self.flip],
            "bones": [list(pair) for pair in self.bones],
            "centre": list(self.centre),
            "sigmas": list(self.sigmas),
            "source": self.source,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> JointSet:
        """The inverse of `describe`. Raises `DataError` where it describes no joint set."""
        try:
            return cls(
                str(description["name"]),
                tuple(str(joint) for joint in description["joints"]),
                tuple((str(a), str(b)) for a, b in description.get("flip", ())),
                tuple((str(a), str(b)) for a, b in description.get("bones", ())),
                tuple(str(joint) for joint in description.get("centre", ())),
                tuple(float(value) for value in description.get("sigmas", ())),
                str(description.get("source", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"a set of joints cannot be understood: {error}",
                hint="It takes a name and joints; flip, bones, centre and sigmas may follow.",
            ) from error


def require_same(needed: JointSet, given: JointSet, where: str) -> None:
    """Raises `JointSetMismatch` unless both have the same joints in the same order; names of the sets do not matter."""
    if needed.joints == given.joints:
        return
    if len(needed) != len(given):
        told = f"{len(given)} joints, {needed.name} has {len(needed)}"
    elif set(needed.joints) == set(given.joints):
        place = next(n for n, (a, b) in enumerate(zip(needed.joints, given.joints, strict=True)) if a != b)
        told = f"the joints of {needed.name} in another order, first at {place}: {given.joints[place]}"
    else:
        told = f"{', '.join(j for j in given.joints if j not in needed.joints)}, which {needed.name} does not have"
    raise JointSetMismatch(
        f"{where}: skeletons of {given.name} where {needed.name} is needed; they have {told}",
        hint="A model serves the joints it was trained on; convert the data to that set, or train on this one.",
    )


def joint_set(name: str) -> JointSet:
    """A known set by its name. Raises `ConfigurationError` that lists the others."""
    try:
        return _KNOWN[name]
    except KeyError:
        raise ConfigurationError(
            f"no set of joints is called {name!r}; known are {', '.join(_KNOWN)}",
            hint="Describe your own in a JSON file: name, joints, flip, bones, centre, sigmas.",
        ) from None


def joint_set_names() -> tuple[str, ...]:
    """Names of the known sets."""
    return tuple(_KNOWN)


def known_joints(joints: Sequence[str], name: str) -> JointSet:
    """The known set of these joints in this order; else one of its own, whose mirror images are told by their names."""
    named = tuple(joints)
    own = next((one for one in _KNOWN.values() if one.joints == named), None)
    return own or JointSet(f"joints of {name}", named, mirrored_by_name(named))


def mirrored_by_name(joints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of joints whose names differ by `left` and `right` alone (`leftear` and `rightear`, `L_ear` is none)."""
    pairs = []
    for name in joints:
        other = re.sub(r"left", "right", name, flags=re.IGNORECASE)
        match = next((one for one in joints if one.lower() == other.lower() and one != name), None)
        if match and "left" in name.lower():
            pairs.append((name, match))
    return tuple(pairs)


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{part}", f"right_{part}") for part in parts)


def _both(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Bones of the left side and of the right; a part in capitals is in the middle."""
    return tuple(
        (a.lower() if a.isupper() else f"{side}_{a}", b.lower() if b.isupper() else f"{side}_{b}")
        for side in ("left", "right")
        for a, b in pairs
    )


_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_ARM = (("shoulder", "elbow"), ("elbow", "wrist"))
_LEG = (("hip", "knee"), ("knee", "ankle"))


def _pairwise(*parts: str) -> tuple[str, ...]:
    return tuple(joint for part in parts for joint in (f"left_{part}", f"right_{part}"))


_COCO17 = JointSet(
    "coco17",
    ("nose", *_pairwise("eye", "ear", *_LIMBS)),
    _sides("eye", "ear", *_LIMBS),
    (
        *_both(("NOSE", "eye"), ("eye", "ear"), ("ear", "shoulder"), *_ARM, ("shoulder", "hip"), *_LEG),
        ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
    ),
    ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    (
        *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
        *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
    "COCO keypoints; sigmas of cocoapi (PythonAPI/pycocotools/cocoeval.py)",
)

_JHMDB15 = JointSet(
    "jhmdb15",
    (
        *("neck", "belly", "face"),
        *(
            f"{side}_{part}"
            for part in ("shoulder", "hip", "elbow", "knee", "wrist", "ankle")
            for side in ("right", "left")
        ),
    ),
    _sides(*_LIMBS),
    (("belly", "neck"), ("neck", "face"), *_both(("NECK", "shoulder"), *_ARM, ("BELLY", "hip"), *_LEG)),
    ("belly", "neck", "left_hip", "right_hip"),
    (
        *(0.025, 0.107, 0.025, 0.079, 0.079, 0.107, 0.107, 0.072, 0.072),
        *(0.087, 0.087, 0.062, 0.062, 0.089, 0.089),
    ),
    "Jhuang et al., ICCV 2013 (jhmdb.is.tue.mpg.de, joint_positions); order and sigmas as in MMPose's JHMDB, which "
    "calls the face the head and takes the sigmas from COCO",
)

_LSP14 = JointSet(
    "lsp14",
    (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        *("neck", "head_top"),
    ),
    _sides(*_LIMBS),
    (("neck", "head_top"), *_both(("NECK", "shoulder"), *_ARM, ("shoulder", "hip"), *_LEG), ("left_hip", "right_hip")),
    ("neck", "left_hip", "right_hip"),
    (0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079, 0.079),
    "Johnson and Everingham, BMVC 2010 and CVPR 2011; no sigmas were published: COCO's, and for neck and head those of "
    "CrowdPose",
)

_POSETRACK17 = JointSet(
    "posetrack17",
    ("nose", "head_bottom", "head_top", *_pairwise("ear", *_LIMBS)),
    _sides("ear", *_LIMBS),
    (
        ("head_bottom", "nose"),
        ("nose", "head_top"),
        *_both(("NOSE", "ear"), ("HEAD_BOTTOM", "shoulder"), *_ARM, ("shoulder", "hip"), *_LEG),
        ("left_hip", "right_hip"),
    ),
    ("head_bottom", "left_hip", "right_hip"),
    _COCO17.sigmas,
    "Andriluka et al., CVPR 2018 (PoseTrack18); sigmas of COCO place by place, as its evaluation and MMPose take them",
)

_NTU25 = JointSet(
    "ntu25",
    (
        *("spine_base", "spine_middle", "neck", "head"),
        *(f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "elbow", "wrist", "hand")),
        *(f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "foot")),
        "spine_shoulder",
        *(f"{side}_{part}" for side in ("left", "right") for part in ("hand_tip", "thumb")),
    ),
    _sides("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot", "hand_tip", "thumb"),
    (
        *(
            ("spine_base", "spine_middle"),
            ("spine_middle", "spine_shoulder"),
            ("spine_shoulder", "neck"),
            ("neck", "head"),
        ),
        *_both(("SPINE_SHOULDER", "shoulder"), *_ARM, ("wrist", "hand"), ("hand", "hand_tip"), ("hand", "thumb")),
        *_both(("SPINE_BASE", "hip"), *_LEG, ("ankle", "foot")),
    ),
    ("spine_middle",),
    (),
    "Shahroudy et al., CVPR 2016 (NTU RGB+D, Kinect v2, in metres); no sigmas are defined",
)

_KNOWN: dict[str, JointSet] = {one.name: one for one in (_COCO17, _JHMDB15, _LSP14, _POSETRACK17, _NTU25)}
