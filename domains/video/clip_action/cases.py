"""From a table or folders of videos to cases: one for each video, its label `action`, its group the source."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from domains.video.clip_action.data_settings import VideoFolders, VideoTable
from domains.video.clip_action.settings import PoseSettings
from domains.video.clip_action.skeleton_files import SkeletonFiles
from domains.video.discovery import ENDINGS
from pipelines.caseids import common_root, group_by_pattern, identifier_problem, normal_identifier, some
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.errors import DataError
from pipelines.tablefiles import Rows, load_rows

__all__ = ["read_video_cases"]

_PARTS = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_MOST_PROBLEMS = 20
_OPTIONAL = ("group", "split", "skeleton", "clip")
"""Columns that must be there only where a workflow names them."""


def read_video_cases(settings: VideoTable | VideoFolders, pose: PoseSettings | None = None) -> CaseTable:
    """Reads the cases that the settings name.

    Args:
        settings: Where videos are.
        pose: How poses are found, where they are needed: cases then have a path `skeleton`, and a label `clip` where a
            table says what they are called in it. A video without skeletons is set aside.

    Raises:
        DataError: The table or the folders cannot be used, or fewer than two actions are there.
    """
    if isinstance(settings, VideoTable):
        table = _of_table(settings, with_poses=pose is not None)
    else:
        table = _of_folders(settings)
    if pose is not None:
        table = _with_skeletons(table, SkeletonFiles(pose.folder))
    actions = {str(case.labels["action"]) for case in table}
    if len(actions) < 2:
        raise DataError(
            f"{table.name} shows {some(sorted(actions)) or 'no action'}: there is nothing to tell apart",
            hint="Check `data`: two actions are needed at least.",
        )
    return table


def _of_table(settings: VideoTable, *, with_poses: bool) -> CaseTable:
    rows = load_rows(settings.file)
    grouped = _check_columns(rows, settings)
    named = with_poses and settings.skeleton in rows.columns
    folder = settings.root or settings.file.parent
    cases: list[Case] = []
    excluded: list[Excluded] = []
    problems: list[str] = []
    for where, cells in rows.rows:
        path = Path(os.path.abspath(folder / cells[settings.video]))
        case_id = normal_identifier(path.stem)
        part = _PARTS.get(cells[settings.split].lower()) if settings.split in rows.columns else ""
        written = cells[settings.action]
        skeleton = Path(os.path.abspath(folder / cells[settings.skeleton])) if named else None
        if not cells[settings.video]:
            problems.append(f"{where}: no video")
        elif not path.is_file():
            problems.append(f"{where}: no file {cells[settings.video]!r}")
        elif skeleton is not None and not skeleton.is_file():
            problems.append(f"{where}: no skeletons {cells[settings.skeleton]!r}")
        elif identifier_problem(case_id):
            problems.append(f"{where}: {identifier_problem(case_id)}")
        elif part is None:
            problems.append(f"{where}: unknown part {cells[settings.split]!r}; use train, validation or test")
        elif written and settings.names and written not in settings.names:
            problems.append(f"{where}: action {written!r} is not in data.names ({', '.join(settings.names)})")
        elif not written:
            excluded.append(Excluded(case_id, "no action", f"Write what it shows in {where}, or remove the row."))
        else:
            group = normal_identifier(cells[settings.group]) if grouped else ""
            labels = {"action": settings.names.get(written, written)}
            if with_poses and cells.get(settings.clip):
                labels["clip"] = cells[settings.clip]
            paths = {"video": path} | ({"skeleton": skeleton} if skeleton else {})
            cases.append(Case(case_id, group or case_id, paths, labels, part))
    if problems:
        raise DataError(
            f"{settings.file.name}: {len(problems)} problems\n  "
            + some(problems, limit=_MOST_PROBLEMS, separator="\n  "),
            hint="Mend the table; paths are relative to its folder (or to `data.root`).",
        )
    return _table(cases, folder, settings.file.stem, excluded)


def _check_columns(rows: Rows, settings: VideoTable) -> bool:
    """Whether there is a column of groups. Raises `DataError` where a column that is needed is not there."""
    wanted = [("video", settings.video), ("action", settings.action)]
    wanted += [(key, getattr(settings, key)) for key in _OPTIONAL if key in settings.model_fields_set]
    missing = [f"{name!r} (data.{key})" for key, name in wanted if name not in rows.columns]
    if missing:
        raise DataError(
            f"{settings.file.name}: no column {', '.join(missing)}",
            hint=f"The table has: {', '.join(rows.columns) or 'no columns'}. Say which it is in the `data` section.",
        )
    return settings.group in rows.columns


def _of_folders(settings: VideoFolders) -> CaseTable:
    root = settings.root
    if not root.is_dir():
        raise DataError(f"no folder {root.name!r} in {root.parent.name!r}", hint="Check `data.root`.")
    cases: list[Case] = []
    excluded: list[Excluded] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in ENDINGS or path.name.startswith(".") or not path.is_file():
                continue
            case_id = normal_identifier("_".join(path.relative_to(root).with_suffix("").parts))
            group = group_by_pattern(case_id, settings.group_pattern) if settings.group_pattern else case_id
            problem = identifier_problem(case_id)
            if not problem and not group:
                problem = f"data.group_pattern {settings.group_pattern!r} finds nothing in the case id"
            if problem:
                excluded.append(Excluded(case_id, problem, "Rename the file, or mend the pattern."))
            else:
                cases.append(Case(case_id, group, {"video": Path(os.path.abspath(path))}, {"action": folder.name}))
    if not cases and not excluded:
        raise DataError(
            f"{root.name!r} holds no videos in folders of its own",
            hint="Make a folder for each action, named after it.",
        )
    return _table(cases, root, root.name, excluded)


def _with_skeletons(table: CaseTable, files: SkeletonFiles) -> CaseTable:
    """The same cases with the files of their poses; those that have none are set aside."""
    cases, excluded = [], list(table.excluded)
    for case in table:
        found, problem = (case.paths["skeleton"], "") if "skeleton" in case.paths else files.of(case.paths["video"])
        if found is None:
            excluded.append(
                Excluded(case.case_id, problem, "Name it in the column `data.skeleton`, or set pose.folder.")
            )
        else:
            cases.append(replace(case, paths={**case.paths, "skeleton": found}))
    return _table(cases, table.root, table.name, excluded)


def _table(cases: list[Case], root: Path, name: str, excluded: list[Excluded]) -> CaseTable:
    if not cases:
        raise DataError(
            f"none of the {len(excluded)} videos can be used: {excluded[0].case_id}: {excluded[0].reason}"
            if excluded
            else f"{name} has no rows"
        )
    try:
        folder = common_root(root, (path for case in cases for path in case.paths.values()))
        return CaseTable(tuple(sorted(cases, key=lambda case: case.case_id)), folder, name, tuple(excluded))
    except ValueError as error:
        raise DataError(str(error), hint="Videos of one name in several folders need names of their own.") from error
