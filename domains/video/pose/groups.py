"""Which joints look at one another: groups of joint tokens, and which token a joint is read from.

The published network has five limbs of three tokens each, and seventeen joints that are read from fifteen of them
(`POSETRACK_GROUPS`, `POSETRACK_ORDER`); for any other set of joints, `groups_of` makes limbs from the names.
"""

from __future__ import annotations

from collections.abc import Sequence

from domains.video.skeletons.joints import JointSet

__all__ = ["POSETRACK_GROUPS", "POSETRACK_ORDER", "check_groups", "groups_by_name", "groups_of"]

Groups = tuple[tuple[int, ...], ...]

POSETRACK_GROUPS: Groups = tuple(tuple(range(first, first + 3)) for first in range(0, 15, 3))
"""Head, left arm, right arm, left leg, right leg; tokens 15 and 16 are in none (DSTA, commit cb683c1)."""
POSETRACK_ORDER = (1, 2, 0, 0, 0, 3, 6, 4, 7, 5, 8, 9, 12, 10, 13, 11, 14)
"""The token of each joint of PoseTrack: the top of the head and both ears are read from one."""

_LIMBS = {
    "arm": ("shoulder", "elbow", "wrist", "hand", "hand_tip", "thumb"),
    "leg": ("hip", "knee", "ankle", "foot", "heel", "big_toe", "small_toe"),
}


def groups_of(joints: JointSet) -> Groups:
    """Arms and legs of each side, from the names `left_shoulder`, `right_knee` …; all other joints are one group."""
    limbs: dict[str, list[int]] = {"": []}
    for place, name in enumerate(joints.joints):
        side, _, part = name.partition("_")
        limb = next((limb for limb, parts in _LIMBS.items() if part in parts), "")
        known = side in ("left", "right") and limb
        limbs.setdefault(f"{side} {limb}" if known else "", []).append(place)
    return tuple(tuple(members) for members in limbs.values() if members)


def groups_by_name(joints: JointSet, named: Sequence[Sequence[str]]) -> Groups:
    """Groups of places from groups of names. Raises `ValueError` where the set has no such joint."""
    if unknown := sorted({name for group in named for name in group} - set(joints.joints)):
        raise ValueError(f"{joints.name} has no joint {', '.join(unknown)}; it has {', '.join(joints.joints)}")
    return tuple(tuple(joints.joints.index(name) for name in group) for group in named)


def check_groups(groups: Sequence[Sequence[int]], order: Sequence[int], tokens: int) -> None:
    """Raises `ValueError` where a group is empty, a token stands in two, or a token is not there."""
    members = [token for group in groups for token in group]
    if any(not group for group in groups):
        raise ValueError("a group of joint tokens is empty")
    if len(set(members)) < len(members):
        raise ValueError(f"a joint token stands in two groups: {[list(group) for group in groups]}")
    if not order:
        raise ValueError("no joint is read from any token")
    if wrong := sorted({token for token in (*members, *order) if not 0 <= token < tokens}):
        raise ValueError(f"there is no joint token {wrong[0]}; there are 0 to {tokens - 1}")
