"""Which file holds the poses of a video: one that a table names, one of its name in a folder, or one beside it."""

from __future__ import annotations

from pathlib import Path

from domains.video.skeletons.opening import ENDINGS, skeleton_files
from pipelines.caseids import some

__all__ = ["SkeletonFiles"]


class SkeletonFiles:
    """Finds the skeletons of videos by their names.

    Args:
        folder: Where they lie, at any depth; None is beside each video.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, list[Path]] = {}
        for path in skeleton_files(folder) if folder is not None else ():
            self._held.setdefault(path.stem, []).append(path)

    def of(self, video: Path) -> tuple[Path | None, str]:
        """The file, or why there is none. Of several in one folder the fullest is taken, as `ENDINGS` has them."""
        if self._folder is None:
            beside = [video.with_name(video.stem + ending) for ending in ENDINGS]
            found = [path for path in beside if path.is_file()]
            where = "beside the video"
        else:
            found = self._held.get(video.stem, [])
            where = f"in {self._folder.name}" if self._folder.is_dir() else f"as there is no folder {self._folder.name}"
        if not found:
            return None, f"no skeletons {where}: no {video.stem} with {some(ENDINGS)}"
        if len({path.parent for path in found}) > 1:
            places = some([f"{path.parent.name}/{path.name}" for path in found], limit=3)
            return None, f"skeletons of {video.stem} stand in several folders: {places}"
        return min(found, key=lambda path: ENDINGS.index(path.suffix.lower())), ""
