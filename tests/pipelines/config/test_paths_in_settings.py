"""A relative path belongs to the file that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.config import FilePath, Section, load_workflow


class _Settings(Section):
    path: FilePath


def test_each_path_belongs_to_the_file_that_wrote_it(workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    cwd = tmp_path_factory.mktemp("cwd")
    workspace.write("base/base.yaml", workspace.valid + "train: {lr: 1}\n")
    path = workspace.write(
        "flows/w.yaml", "extends: ../base/base.yaml\ndata:\n  table: ../cases.csv\n  extra: [a, ../b, /c/d]\n"
    )
    data = load_workflow(path, env={}, cwd=cwd).config.data
    assert data.path == workspace.folder / "base" / "scans"
    assert data.table == workspace.folder / "cases.csv"
    assert data.extra == [workspace.folder / "flows" / "a", workspace.folder / "b", Path("/c/d")]
    overridden = load_workflow(path, ["data.path=x", "data.extra.0=y"], env={}, cwd=cwd).config.data
    assert overridden.path == cwd / "x"
    assert overridden.extra[:2] == [cwd / "y", workspace.folder / "b"]


@pytest.mark.parametrize(
    ("written", "env", "expected"),
    [
        pytest.param("${env:ROOT}/x", {"ROOT": "/abs"}, "/abs/x", id="variable that is absolute"),
        pytest.param("${env:ROOT}/x", {"ROOT": "rel"}, "CWD/rel/x", id="variable that is relative"),
        pytest.param("${env:ROOT,d}/x", {}, "FLOWS/d/x", id="default that is relative"),
        pytest.param("${env:ROOT,../d}", {}, "FOLDER/d", id="default that goes up"),
        pytest.param("a/${name}", {}, "FLOWS/a/x", id="reference inside"),
        pytest.param("${data.path}/y", {}, "BASE/scans/y", id="reference to a path of another file"),
        pytest.param("${data.path}", {}, "BASE/scans", id="reference alone"),
        pytest.param("/a/./b/../c/", {}, "/a/c", id="dots are resolved"),
        pytest.param("~/x", {}, "HOME/x", id="home folder"),
    ],
)
def test_references_in_paths(
    workspace: Any, tmp_path_factory: pytest.TempPathFactory, written: str, env: dict[str, str], expected: str
) -> None:
    cwd = tmp_path_factory.mktemp("cwd")
    workspace.write("base/base.yaml", workspace.valid)
    path = workspace.write("flows/w.yaml", f"extends: ../base/base.yaml\ndata:\n  table: {written}\n")
    places = {
        "CWD": cwd,
        "FLOWS": path.parent,
        "FOLDER": workspace.folder,
        "BASE": workspace.folder / "base",
        "HOME": Path.home(),
    }
    for name, place in places.items():
        expected = expected.replace(name, str(place))
    assert load_workflow(path, env=env, cwd=cwd).config.data.table == Path(expected)


def test_a_relative_workflow_path_is_in_the_current_folder(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write("flows/w.yaml", workspace.valid)
    monkeypatch.chdir(workspace.folder)
    resolved = load_workflow("flows/w.yaml", env={})
    assert resolved.config.data.path == workspace.folder / "flows" / "scans"
    assert str(resolved.origins["name"]) == "flows/w.yaml:2:7"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("5", "expected a path, got 5", id="number"),
        pytest.param("''", "expected a path, got ''", id="empty"),
        pytest.param("[a]", "expected a path, got ['a']", id="list"),
        pytest.param('"a\\0b"', "expected a path, got", id="NUL"),
        pytest.param("~nobody-of-that-name/x", "names a home folder that is not known here", id="unknown home"),
        pytest.param("null", "expected a path, got null", id="null"),
    ],
)
def test_what_is_no_path_is_refused(workspace: Any, value: str, expected: str) -> None:
    (problem,) = workspace.problems(workspace.valid.replace("path: scans", f"path: {value}"))
    assert problem.startswith("w.yaml:4:9  data.path: ")
    assert expected in problem


def test_a_path_from_python_is_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert _Settings(path="x").path == tmp_path / "x"  # type: ignore[arg-type]
    assert _Settings(path=Path("/a/b")).path == Path("/a/b")
    with pytest.raises(ValidationError):
        _Settings(path=3)  # type: ignore[arg-type]
    assert _Settings(path=Path("/a")).model_dump(mode="json") == {"path": "/a"}


def test_links_are_kept(workspace: Any) -> None:
    workspace.write("real/scans/a.txt", "")
    (workspace.folder / "link").symlink_to(workspace.folder / "real")
    data = workspace.load(workspace.valid.replace("path: scans", "path: link/scans")).config.data
    assert data.path == workspace.folder / "link" / "scans"
