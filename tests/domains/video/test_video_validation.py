"""Every file of a folder ends with facts or a named reason, and a second look finds nothing to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from domains.video.clip_action.settings import ClipWorkflow
from domains.video.clip_action.task import ClipActionTask
from domains.video.discovery import discover_videos
from domains.video.validation import look_through, read_manifest
from pipelines.errors import ExitCode
from pipelines.fixtures import data_root
from pipelines.modelfolder import save_model

PLAIN_NAMES = frozenset({"plain", "turned", "stream", "av1", "uneven", "edited", "one", "shortened"})


def validate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return pulvinar("video", "validate", *arguments)


def pulvinar(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workflows.main", *map(str, arguments)]
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": root, "NO_COLOR": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    videos = tmp_path_factory.mktemp("videos")
    make_video(videos / "plain.mp4", stamps=list(range(20)))
    make_video(videos / "uneven.mp4", stamps=[0, 1, 2, 9, 10])
    make_video(videos / "edited.mp4", stamps=list(range(20)), skip=5)
    make_video(videos / "turned.mov", stamps=list(range(20)), rotation=90)
    make_video(videos / "stream.ts", stamps=list(range(20)), container="mpegts")
    make_video(videos / "av1.mkv", stamps=list(range(20)), codec="libsvtav1")
    make_video(videos / "one.mp4", stamps=[0])
    (videos / "shortened.ts").write_bytes((videos / "stream.ts").read_bytes()[:-1500])
    (videos / "cut.mp4").write_bytes((videos / "plain.mp4").read_bytes()[:500])  # its index lay at the end
    (videos / "zeroed.mp4").write_bytes(bytes(20_000))
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("words")
    (videos / "notes.txt").write_text("not a video by its name")
    (videos / ".hidden.mp4").write_text("hidden")
    (videos / "gone.mp4").symlink_to(videos / "nowhere.mp4")
    (videos / "folder.mp4").mkdir()
    make_video(videos / "one.webm", stamps=[0, 1], codec="libvpx-vp9")
    make_video(videos / "ünï 視頻, 'it'.mp4", stamps=list(range(20)))
    make_video(videos / ("long" * 50 + ".mp4"), stamps=list(range(20)))
    return videos


def test_every_video_ends_with_facts_or_a_reason(folder: Path, tmp_path: Path) -> None:
    done = validate(folder, "--out", tmp_path / "out", "--json")
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    summary = json.loads(done.stdout)
    assert {failure["outcome"] for failure in summary["failures"]} == {"failed"}
    reasons = {failure["item_id"]: failure["reason"] for failure in summary["failures"]}
    assert set(reasons) == {"empty", "text", "zeroed", "cut", "gone"}
    assert "the file is empty" in reasons["empty"]
    assert "a link to one that does not" in reasons["gone"]
    others = {name for name, reason in reasons.items() if "no video can be opened" not in reason}
    assert others == {"empty", "gone"}, reasons
    assert summary["manifest"] == str(tmp_path / "out/joined/manifest.parquet")
    manifest = read_manifest(tmp_path / "out")
    readable = {name: row["readable"] for name, row in manifest.items()}
    unusual = {row["source"]: readable.pop(name) for name, row in manifest.items() if name not in PLAIN_NAMES}
    assert unusual == {"one.webm": 2, "ünï 視頻, 'it'.mp4": 20, "long" * 50 + ".mp4": 20}
    assert 10 < readable.pop("shortened") < 20
    whole = dict.fromkeys(("plain", "turned", "stream", "av1"), 20)
    assert readable == whole | {"uneven": 5, "edited": 15, "one": 1}
    assert [manifest["turned"][name] for name in ("rotation", "height", "width")] == [90, 128, 48]
    assert [row["source"] for name, row in manifest.items() if name == "one"] == ["one.mp4"]
    assert {row["backend"] for row in manifest.values()} == {"pyav"}
    assert {name for name, row in manifest.items() if not row["decord"]} >= {"plain"}
    assert "edit list" in manifest["edited"]["decord"]
    assert {name for name, row in manifest.items() if row["variable"]} - {"shortened"} == {"uneven"}
    assert {name for name, row in manifest.items() if row["edited"]} == {"edited"}
    times = (tmp_path / "out/uneven/uneven.times.csv").read_text().splitlines()
    assert times == ["frame,seconds", "0,0.000000", "1,0.040000", "2,0.080000", "3,0.360000", "4,0.400000"]

    again = validate(folder, "--out", tmp_path / "out", "--json")
    assert json.loads(again.stdout)["counts"]["skipped"] == len(manifest)


def test_prediction_gives_each_file_a_result_or_a_reason(
    folder: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    for action in ("a", "b"):
        (tmp_path / "clips" / action).mkdir(parents=True)
        make_video(tmp_path / "clips" / action / f"{action}.mp4", stamps=list(range(8)))
    task = ClipActionTask(
        ClipWorkflow.model_validate(
            {
                "task": "video/clip-action",
                "name": "kinds",
                "data": {"format": "folders", "root": str(tmp_path / "clips")},
                "input": {"size": (16, 32), "fit": "stretch"},
                "clip": {"frames": 4, "views": 1},
                "model": {"network": "space_time", "encoder": {"name": "small", "channels": (8, 12)}, "dim": 16},
            }
        )
    )
    task.fit(task.read_cases().cases)
    save_model(tmp_path / "model", task, task.build_network().state_dict())
    done = pulvinar("predict", tmp_path / "model", folder, "--out", tmp_path / "out", "--device", "cpu", "--json")
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    summary = json.loads(done.stdout)
    assert summary["counts"]["ok"] == 11
    assert {one["item_id"]: one["outcome"] for one in summary["failures"]} == dict.fromkeys(
        ("cut", "empty", "gone", "text", "zeroed"), "failed"
    )
    assert all(one["reason"] for one in summary["failures"])


def test_a_file_that_takes_too_long_is_ended_by_the_time_limit(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos/quick.mp4", stamps=[0, 1])
    slow = {"stamps": list(range(800)), "options": {"preset": "ultrafast"}, "between_keys": 250, "size": (480, 640)}
    make_video(tmp_path / "videos/slow.mp4", **slow)
    done = validate(tmp_path / "videos", "--out", tmp_path / "out", "--timeout", "0.1", "--json")
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    failures = {one["item_id"]: (one["outcome"], one["reason"]) for one in json.loads(done.stdout)["failures"]}
    assert failures["slow"] == ("timeout", "took longer than 0.1 s while it was in stage 'read'")


def test_the_readable_beginning_of_a_damaged_file_is_told(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    path = make_video(tmp_path / "holes.mp4", stamps=list(range(40)), options={"bf": "0"}, between_keys=10)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + len(content) // 4
    content[start : start + len(content) // 4] = bytes(len(content) // 4)
    path.write_bytes(content)
    facts, times = look_through(path, "holes")
    assert 0 < facts.readable < facts.frames == 40
    assert facts.damaged == f"frame {facts.readable} of 40 cannot be decoded"
    assert len(times) == facts.readable


def test_files_are_found_once_and_what_is_missing_is_an_item(folder: Path) -> None:
    items = discover_videos([folder, folder / "plain.mp4", Path(f"{folder}/u*.mp4"), folder / "lost.mp4"])
    found = [
        *("av1", "cut", "edited", "empty", "gone", "long" * 50, "one", "one", "plain", "shortened", "stream", "text"),
        *("turned", "uneven", "zeroed", "ünï 視頻, 'it'"),
    ]
    assert [item.item_id for item in items] == [*found, "lost"]
    assert items[-1].problem == "there is no such file"
    (none,) = discover_videos([Path(f"{folder}/*.xyz")])
    assert none.problem == "no file matches"


def test_the_videos_at_hand_each_end_with_facts(tmp_path: Path) -> None:
    root = data_root()
    if root is None or not (root / "videos").is_dir():
        pytest.skip("needs the data set 'videos' (PULVINAR_DATA)")
    done = validate(root / "videos", "--out", tmp_path / "out", "--json")
    assert done.returncode == ExitCode.OK, done.stdout
    facts = {name: (row["frames"], row["readable"]) for name, row in read_manifest(tmp_path / "out").items()}
    assert facts == {"demo": (280, 280), "test": (164, 164), "vtest": (795, 795)}
