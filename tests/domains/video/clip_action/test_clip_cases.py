"""Videos of actions become cases with their source as the group; what is wrong is told by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domains.video.clip_action.cases import read_video_cases
from domains.video.clip_action.data_settings import VideoFolders, VideoTable
from pipelines.errors import DataError


def table(folder: Path, text: str, **settings: Any) -> VideoTable:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"")
    (folder / "videos.csv").write_text(text, encoding="utf-8")
    return VideoTable(file=folder / "videos.csv", **settings)


def test_rows_become_cases_with_named_actions(tmp_path: Path) -> None:
    text = "file,label,source,split\na.mp4,1,s1,test\nb.mp4,0,s2,\nc.mp4,,s2,\n"
    names = {"0": "calm", "1": "fight"}
    found = read_video_cases(table(tmp_path, text, video="file", action="label", group="source", names=names))
    told = [(case.case_id, case.group, case.labels["action"], case.split) for case in found]
    assert told == [("a", "s1", "fight", "test"), ("b", "s2", "calm", "")]
    assert [(one.case_id, one.reason) for one in found.excluded] == [("c", "no action")]


@pytest.mark.parametrize(
    ("text", "settings", "complaint"),
    [
        pytest.param("video,action\nz.mp4,x\n", {}, "line 2: no file 'z.mp4'", id="a file that is not there"),
        pytest.param("video,what\na.mp4,x\n", {}, r"no column 'action' \(data.action\)", id="no column"),
        pytest.param("video,action\na.mp4,x\nb.mp4,x\n", {}, "nothing to tell apart", id="one action"),
        pytest.param("video,action\na.mp4,x\n", {"names": {"1": "y"}}, "'x' is not in data.names", id="no name"),
        pytest.param("video,action,split\na.mp4,x,tset\n", {}, "unknown part 'tset'", id="part"),
        pytest.param("video,action\na.mp4,x\n", {"group": "source"}, "no column 'source'", id="no groups"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(
    tmp_path: Path, text: str, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read_video_cases(table(tmp_path, text, **settings))


def test_folders_name_actions_and_a_pattern_finds_sources(squares: Path) -> None:
    found = read_video_cases(VideoFolders(root=squares, group_pattern=r"_(g\d+)_"))
    assert len(found) == 12
    assert found[0].case_id == "moving_g0_01"
    assert {case.group for case in found} == {"g0", "g1", "g2", "g3"}
    assert {str(case.labels["action"]) for case in found} == {"moving", "still"}
    with pytest.raises(DataError, match="no folder"):
        read_video_cases(VideoFolders(root=squares / "nowhere"))
    with pytest.raises(DataError, match="holds no videos"):
        read_video_cases(VideoFolders(root=squares / "still"))
