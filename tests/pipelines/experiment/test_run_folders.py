"""Run folders: numbered without collision, resumed only when they are what they were, one process at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.config import dump_yaml
from pipelines.errors import ConfigurationError
from pipelines.experiment.folders import changed_keys, find_resumable, list_runs, new_run_folder
from pipelines.experiment.guards import alone_in
from pipelines.workflow import WorkflowConfig

CONFIG = WorkflowConfig(task="toy", name="trial")


def started(output: Path, config: WorkflowConfig, state: str) -> Path:
    run = new_run_folder(output, config.name)
    run.config.write_text(dump_yaml(config))
    run.update_status(state=state)
    return run.root


def test_runs_are_numbered_in_order_and_never_share_a_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        roots = list(pool.map(lambda _: new_run_folder(tmp_path, "trial").root, range(24)))
    assert sorted(root.name for root in roots) == [f"{number:03d}" for number in range(1, 25)]
    (tmp_path / "trial" / "012").rmdir()
    assert new_run_folder(tmp_path, "trial").root.name == "025"


def test_only_folders_with_a_status_are_runs(tmp_path: Path) -> None:
    root = started(tmp_path, CONFIG, "finished")
    new_run_folder(tmp_path, "trial")
    (tmp_path / "trial" / "notes").mkdir()
    assert [run.root for run in list_runs(tmp_path, "trial")] == [root]
    assert list_runs(tmp_path, "other") == []


def test_the_latest_unfinished_run_is_resumed(tmp_path: Path) -> None:
    started(tmp_path, CONFIG, "interrupted")
    latest = started(tmp_path, CONFIG, "running")
    started(tmp_path, CONFIG, "finished")
    assert find_resumable(tmp_path, CONFIG).root == latest


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    started(tmp_path, CONFIG, "finished")
    with pytest.raises(ConfigurationError, match="no unfinished run of 'trial'"):
        find_resumable(tmp_path, CONFIG)


def test_a_changed_configuration_is_refused_by_its_keys(tmp_path: Path) -> None:
    started(tmp_path, CONFIG, "interrupted")
    other = CONFIG.model_copy(update={"seed": 3, "train": CONFIG.train.model_copy(update={"lr": 0.5})})
    with pytest.raises(ConfigurationError, match=r"changed: seed, train\.lr"):
        find_resumable(tmp_path, other)
    assert changed_keys(list_runs(tmp_path, "trial")[0], CONFIG) == []


def test_a_run_folder_takes_one_process_at_a_time(tmp_path: Path) -> None:
    run = new_run_folder(tmp_path, "trial")
    with alone_in(run), pytest.raises(ConfigurationError, match="another process"), alone_in(run):
        pass
    with alone_in(run):
        pass
