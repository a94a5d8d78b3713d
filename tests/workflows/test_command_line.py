"""The command line as a user meets it: what is said, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import ExitCode
from workflows.catalogue import catalogue
from workflows.main import run

HEAVY = ("torch", "mlflow", "monai", "pandas", "matplotlib", "SimpleITK", "scipy", "sklearn")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["list", "workflows"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from workflows.main import run; code = run(sys.argv[1:]); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["bogus"], "bogus", id="unknown command"),
        pytest.param(["run"], "WORKFLOW", id="missing argument"),
        pytest.param(["run", "nofile.yaml"], "nofile.yaml", id="missing file"),
        pytest.param(["plan", "hippocampus"], "did you mean 'medical/hippocampus'", id="near a name of the catalogue"),
        pytest.param(["run", "medical/phantom", "train.lr=fast"], "train.lr: expected a number", id="bad value"),
        pytest.param(["run", "medical/phantom", "train.lrr=1"], "did you mean", id="unknown key"),
        pytest.param(["explain", "medical/phantom", "train.lrr"], "did you mean 'train.lr'", id="explain unknown"),
        pytest.param(["init", "medical/segmentatio", "x"], "medical/segmentation", id="unknown task"),
        pytest.param(["attention", "show", "windw"], "window", id="unknown mechanism"),
        pytest.param(
            ["run", "medical/phantom", "--resume", "output=nowhere"], "no unfinished run", id="nothing to resume"
        ),
    ],
)
def test_usage_errors_name_the_value_and_exit_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = call(capsys, *arguments)
    assert code == ExitCode.USAGE
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_missing_model_exits_with_4(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, error = call(capsys, "predict", tmp_path / "model", tmp_path, "--out", tmp_path / "out")
    assert code == ExitCode.DATA
    assert "model" in error


def test_every_workflow_of_the_catalogue_is_listed_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = call(capsys, "list", "workflows", "--json")
    listed = {entry["name"]: entry["summary"] for entry in json.loads(output)}
    assert code == 0
    assert set(listed) == {entry.name for entry in catalogue()} >= {"medical/phantom", "medical/hippocampus"}
    assert all(len(summary) > 10 for summary in listed.values())


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_every_workflow_of_the_catalogue_loads(entry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipelines.config import load_workflow
    from workflows.tasks import register_tasks

    monkeypatch.setenv("PULVINAR_DATA", str(tmp_path))
    register_tasks()
    assert load_workflow(entry.path).config.name


def test_a_workflow_is_found_by_path_by_name_and_by_the_repository_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from workflows.catalogue import find_workflow

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("task: medical/segmentation\n")
    by_name = find_workflow("medical/phantom")
    assert by_name == find_workflow("workflows/medical/phantom.yaml")
    assert find_workflow("own.yaml") == Path("own.yaml")


def test_a_started_project_loads_and_is_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from pipelines.config import load_workflow

    folder = tmp_path / "project"
    code, output, _ = call(capsys, "init", "medical/segmentation", folder)
    assert code == 0
    assert f"pulvinar validate {folder / 'workflow.yaml'}" in output.replace("\n", "")
    assert load_workflow(folder / "workflow.yaml").config.data.root == folder / "data"
    before = (folder / "workflow.yaml").read_text()
    (folder / "workflow.yaml").write_text("mine")
    code, _, error = call(capsys, "init", "medical/segmentation", folder)
    assert code == ExitCode.USAGE
    assert "exists" in error
    assert (folder / "workflow.yaml").read_text() == "mine" != before


def test_explain_tells_where_a_value_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = call(capsys, "explain", "medical/phantom", "train.lr", "train.lr=0.25", "--json")
    assert code == 0
    told = json.loads(output)
    assert told["value"] == 0.25
    assert "command line" in json.dumps(told)


def test_the_schema_is_written_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, _ = call(capsys, "schema", "--out", tmp_path / "schema.json")
    assert code == 0
    assert "$defs" in json.loads((tmp_path / "schema.json").read_text())


def test_doctor_finds_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = call(capsys, "doctor", "--json")
    checks = {check["check"]: check for check in json.loads(output)}
    assert code == 0
    assert checks["torch"]["state"] == "ok"
