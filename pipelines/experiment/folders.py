"""Run folders of a workflow: a new one for each run, and the one to resume."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import dump_yaml
from pipelines.errors import ConfigurationError, PulvinarError
from pipelines.runs import RunFolder
from pipelines.workflow import WorkflowConfig

__all__ = ["changed_keys", "find_resumable", "list_runs", "new_run_folder"]

_LARGEST = 10_000
_FREE = ("train.workers", "train.device", "train.max_minutes", "train.log_every", "train.checkpoint_every", "track.")
"""Keys (or beginnings of keys) that decide nothing of the result: a run may be resumed with other values."""


def list_runs(output: Path, name: str) -> list[RunFolder]:
    """The runs of a workflow, oldest first."""
    folders = (output / name).glob("[0-9][0-9][0-9]*") if (output / name).is_dir() else ()
    return [RunFolder(folder) for folder in sorted(folders) if (folder / "status.json").is_file()]


def new_run_folder(output: Path, name: str) -> RunFolder:
    """Makes `output/name/001`, or the next number that is free; safe when several runs start at once."""
    parent = output / name
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(folder.name) for folder in parent.iterdir() if folder.name.isdecimal()]
    for number in range(max(taken, default=0) + 1, _LARGEST):
        try:
            (parent / f"{number:03d}").mkdir()
        except FileExistsError:
            continue
        return RunFolder(parent / f"{number:03d}")
    raise PulvinarError(
        f"{parent} holds {_LARGEST - 1} runs", hint="Give the workflow another name, or remove old runs."
    )


def find_resumable(output: Path, config: WorkflowConfig) -> RunFolder:
    """The latest run of this workflow that has not finished.

    Raises:
        ConfigurationError: There is none, or its configuration was another.
    """
    unfinished = [run for run in list_runs(output, config.name) if run.read_status().get("state") != "finished"]
    if not unfinished:
        raise ConfigurationError(
            f"there is no unfinished run of {config.name!r} in {output}", hint="Start it without --resume."
        )
    run = unfinished[-1]
    changed = changed_keys(run, config)
    if changed:
        raise ConfigurationError(
            f"{run.root} was started with another configuration; changed: {', '.join(changed)}",
            hint="Set them back to resume, or start a new run without --resume.",
        )
    return run


def changed_keys(run: RunFolder, config: WorkflowConfig) -> list[str]:
    """Dotted keys whose values differ between a run's saved configuration and this one, but for those that are free."""
    import yaml

    saved = _flatten(yaml.safe_load(run.config.read_text())) if run.config.is_file() else {}
    current = _flatten(yaml.safe_load(dump_yaml(config)))
    differing = (key for key in saved.keys() | current.keys() if saved.get(key) != current.get(key))
    return sorted(key for key in differing if not key.startswith(_FREE))


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict) and value:
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in _flatten(item, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value}
