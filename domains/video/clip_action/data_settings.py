"""The `data:` section: where videos of actions lie, and what each shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.caseids import GroupPattern
from pipelines.config.paths import FilePath
from pipelines.config.section import Section

__all__ = ["VideoData", "VideoFolders", "VideoTable"]


class VideoTable(Section):
    """A CSV or Parquet file with a row for each video."""

    format: Literal["table"] = "table"
    """A table that you write."""
    file: FilePath
    """The table: `.csv`, `.tsv` or `.parquet`, with one header row."""
    root: FilePath | None = None
    """Folder that paths in the table are relative to; empty: the folder of the table."""
    video: str = "video"
    """Column of the video files."""
    action: str = "action"
    """Column of what they show. A row without it is set aside."""
    group: str = "group"
    """Column of what must stay together: the source that a video was cut from, the performer, the place."""
    split: str = "split"
    """Column that says `train`, `validation` or `test`; empty cells, or no such column, leave it to be drawn."""
    skeleton: str = "skeleton"
    """Column of the files with the poses of each video, where these are the second modality; without it, they are found
    by the video's name (`pose.folder`)."""
    clip: str = "clip"
    """Column of what a video is called in a file that holds the poses of several; without it, its own name."""
    names: dict[str, str] = Field(default={})
    """What is written in the table → the name of the class, where the table has numbers: `{"0": calm, "1": fight}`."""


class VideoFolders(Section):
    """A folder for each action, named after it, with its videos at any depth."""

    format: Literal["folders"] = "folders"
    """A folder for each action."""
    root: FilePath
    """Folder that holds them."""
    group_pattern: GroupPattern | None = None
    """Regular expression that finds in a case id what must stay together, for example `_(g\\d+)_`; without it each
    video is its own group."""


VideoData = Annotated[VideoTable | VideoFolders, Field(discriminator="format")]
"""Where the videos come from, by `format`."""
