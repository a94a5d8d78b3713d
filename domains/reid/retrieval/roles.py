"""Who asks, who is searched, and by which rule, for the cases of one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domains.reid.judging.rules import MATCHING_RULES, MatchingRule, draw_one_gallery_image
from domains.reid.retrieval.settings import RetrievalJudgeSettings
from pipelines.cases import Case
from pipelines.errors import DataError

__all__ = ["Roles", "check_cameras", "roles_of", "rounds_of"]


@dataclass(frozen=True)
class Roles:
    """Queries, gallery, and what is removed from rankings."""

    queries: tuple[Case, ...]
    gallery: tuple[Case, ...]
    rule: MatchingRule


def check_cameras(cases: Sequence[Case], settings: RetrievalJudgeSettings) -> None:
    """Whether cameras are known as the protocol needs them; told before anything is trained.

    Raises:
        DataError: A camera that asks or is searched took no picture; or of the pictures that may be judged only some
            name a camera, so that matches by the own camera could be left out of some rankings alone.
    """
    judged = [case for case in cases if case.split != "train" and case.labels.get("identity")]
    without = [case.case_id for case in judged if not _camera(case)]
    if settings.protocol in ("auto", "each") and 0 < len(without) < len(judged):
        raise DataError(
            f"{len(without)} of {len(judged)} pictures name no camera, the first {without[0]!r}; the others do",
            hint="Matches by the own camera do not count, so tell the camera of each picture, or of none.",
        )
    there = {_camera(case) for case in cases}
    for key in ("query_cameras", "gallery_cameras"):
        missing = [camera for camera in getattr(settings, key) if camera not in there]
        if missing:
            raise DataError(
                f"judge.{key}: camera {missing[0]!r} took no picture; there are: "
                + (", ".join(sorted(there - {""})) or "none"),
                hint="Names of cameras are text, as data.pattern or the table tells them: '01' is not '1'.",
            )


def roles_of(cases: Sequence[Case], settings: RetrievalJudgeSettings, *, data_format: str = "") -> Roles:
    """Divides the cases of a part.

    Args:
        cases: Cases of a part.
        settings: The protocol.
        data_format: `data.format`: a benchmark brings its own rule where it gives the roles.

    Raises:
        DataError: Nobody asks, or nobody is searched.
    """
    if settings.protocol == "one_each":
        return rounds_of(cases, settings)[0]
    marked = any(case.labels.get("role") for case in cases)
    if settings.protocol == "cameras":
        queries = tuple(case for case in cases if _camera(case) in settings.query_cameras)
        gallery = tuple(case for case in cases if _camera(case) in settings.gallery_cameras)
        rule = MATCHING_RULES["none"]
    elif settings.protocol == "auto" and marked:
        queries = tuple(case for case in cases if case.labels.get("role") == "query")
        gallery = tuple(case for case in cases if case.labels.get("role") != "query")
        rule = MATCHING_RULES.get(data_format) or MATCHING_RULES["cameras" if _all_have_cameras(cases) else "none"]
    else:
        queries = tuple(case for case in cases if case.labels.get("identity"))
        gallery = tuple(cases)
        rule = MATCHING_RULES["cameras" if _all_have_cameras(cases) else "cub"]
    if cases and not (queries and gallery):
        cameras = ", ".join(sorted({_camera(case) for case in cases})) or "none"
        raise DataError(
            f"of {len(cases)} pictures {len(queries)} ask and {len(gallery)} are searched; cameras: {cameras}",
            hint="Check judge.query_cameras and judge.gallery_cameras, or the roles in the data.",
        )
    return Roles(queries, gallery, rule)


def rounds_of(cases: Sequence[Case], settings: RetrievalJudgeSettings) -> list[Roles]:
    """The rounds of `one_each`: in each, one picture of each identity is the gallery and all others ask.

    Raises:
        DataError: No identity has two pictures.
    """
    known = [case for case in cases if case.labels.get("identity")]
    draws = draw_one_gallery_image(
        [str(case.labels["identity"]) for case in known],
        rounds=settings.rounds,
        generator=np.random.default_rng(settings.rounds_seed),
    )
    return [
        Roles(tuple(known[at] for at in queries), tuple(known[at] for at in gallery), MATCHING_RULES["vehicleid"])
        for queries, gallery in draws
    ]


def _camera(case: Case) -> str:
    return str(case.labels.get("camera", ""))


def _all_have_cameras(cases: Sequence[Case]) -> bool:
    """Whether every picture has a camera and there are several; one camera alone would leave nobody to find."""
    cameras = {_camera(case) for case in cases if case.labels.get("identity")}
    return "" not in cameras and len(cameras) > 1
