"""The model folder: all that is needed to serve a network again, without a pickle.

    MODEL/
      model.safetensors    the weights
      model.yaml           format, task, how to build it, sha256 of the weights, scores, versions

A run folder is accepted wherever a model folder is: its model lies in `RUN/model`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.errors import ConfigurationError, ModelFolderError, PulvinarError
from pipelines.folders import staged_folder
from pipelines.task import find_task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pipelines.task import Task

__all__ = [
    "LoadedModel",
    "ModelRecord",
    "change_description",
    "find_model",
    "load_model",
    "read_model_record",
    "save_model",
]

FORMAT = 1
WEIGHTS = "model.safetensors"
RECORD = "model.yaml"
_RECORD_LIMIT = 4 * 2**20
_ATTEMPTS = 3


@dataclass(frozen=True)
class ModelRecord:
    """What `model.yaml` says.

    Attributes:
        folder: The model folder.
        task: Name of the task.
        description: What `Task.describe` gave.
        sha256: Digest of the weights file.
        parameters: Number of values in the weights file.
        metrics: Scores of the network, where they were saved.
        made_with: Versions of pulvinar and torch, and the commit.
        created: ISO time, UTC.
        data_digest: Digest of the data it was trained on, where known.
    """

    folder: Path
    task: str
    description: Mapping[str, Any]
    sha256: str
    parameters: int
    metrics: Mapping[str, Any]
    made_with: Mapping[str, Any]
    created: str
    data_digest: str

    @property
    def digest(self) -> str:
        """Digest of what determines predictions: the task, its description and the weights."""
        content = {"task": self.task, "description": self.description, "weights": self.sha256}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


class LoadedModel(NamedTuple):
    """A network ready to serve: in evaluation mode, on its device."""

    task: Task
    network: nn.Module
    record: ModelRecord

    @property
    def description(self) -> Mapping[str, Any]:
        """What the task was built from."""
        return self.record.description


def save_model(
    folder: Path,
    task: Task,
    state_dict: Mapping[str, Tensor],
    *,
    metrics: Mapping[str, Any] | None = None,
    data_digest: str = "",
) -> ModelRecord:
    """Writes a model folder, whole or not at all; one that is there is replaced in one step.

    Args:
        folder: Where; an existing folder must be a model folder or empty.
        task: A fitted task; its `describe()` is stored.
        state_dict: The weights, on any device. Tied tensors are stored once each.
        metrics: Scores to keep beside the weights (plain numbers).
        data_digest: Digest of the training data.

    Raises:
        ModelFolderError: `folder` holds something else.
        ValueError: The description holds an absolute path or a value that is not plain.
    """
    from safetensors.torch import save_file

    if folder.exists() and not (folder / RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelFolderError(f"{folder} is not empty and is no model folder", hint="Choose another folder.")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    content = {
        "format": FORMAT,
        "task": task.name,
        "description": _plain(task.describe(), "description"),
        "weights": {},
        "metrics": _plain(dict(metrics or {}), "metrics"),
        "made_with": _versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_digest": data_digest,
    }
    with staged_folder(folder) as staged:
        save_file(tensors, staged / WEIGHTS, metadata={"format": "pt"})
        (staged / WEIGHTS).chmod((staged.stat().st_mode & 0o666) | 0o600)
        content["weights"] = {
            "file": WEIGHTS,
            "sha256": _sha256(staged / WEIGHTS),
            "bytes": (staged / WEIGHTS).stat().st_size,
            "tensors": len(tensors),
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
        }
        (staged / RECORD).write_text(_dump(content), encoding="utf-8")
    return read_model_record(folder)


def find_model(path: Path) -> Path:
    """The model folder at `path`, or in it where it is a run folder.

    Raises:
        ModelFolderError: There is none.
    """
    if path.is_file() and path.name in (RECORD, WEIGHTS):
        path = path.parent
    for folder in (path, path / "model"):
        if (folder / RECORD).is_file():
            return folder
    if not path.exists():
        raise ModelFolderError(f"no model at {path}: it does not exist", hint="Name a model folder or a run folder.")
    state = " (its run has not finished)" if (path / "status.json").is_file() else ""
    raise ModelFolderError(
        f"no model at {path}{state}: there is no {RECORD} in it",
        hint="A model folder holds model.yaml and model.safetensors; `pulvinar run` leaves one in RUN/model.",
    )


def read_model_record(path: Path) -> ModelRecord:
    """What `model.yaml` says, without reading the weights.

    Raises:
        ModelFolderError: It is missing, damaged, or of another format.
    """
    folder = find_model(path)
    content = _parse(folder / RECORD)
    found = content.get("format")
    if found != FORMAT:
        raise ModelFolderError(
            f"{folder / RECORD} has format {found!r}; this version reads format {FORMAT}",
            hint="Use the version of pulvinar that wrote it (made_with in model.yaml), or train again.",
        )
    weights = _mapping(content.get("weights"))
    checks: tuple[tuple[str, Any, type], ...] = (
        ("task", content.get("task"), str),
        ("description", content.get("description"), dict),
        ("weights.sha256", weights.get("sha256"), str),
        ("weights.parameters", weights.get("parameters"), int),
    )
    for key, value, kind in checks:
        if not isinstance(value, kind):
            raise ModelFolderError(
                f"{folder / RECORD}: {key} is {value!r}, not a {_KIND_NAMES[kind]}", hint="Copy the model folder again."
            )
    return ModelRecord(
        folder=folder,
        task=content["task"],
        description=content["description"],
        sha256=weights["sha256"],
        parameters=weights["parameters"],
        metrics=_mapping(content.get("metrics")),
        made_with=_mapping(content.get("made_with")),
        created=str(content.get("created", "")),
        data_digest=str(content.get("data_digest") or ""),
    )


def load_model(
    path: Path, *, device: torch.device | str = "cpu", changes: Mapping[str, Any] | None = None
) -> LoadedModel:
    """Builds the network of a model folder (or run folder) and loads its weights.

    Args:
        path: Model folder, or run folder.
        device: Where the network goes.
        changes: Dotted keys of the description → values that replace them, for example another `infer.overlap`.

    Raises:
        ModelFolderError: The folder is incomplete, altered, of another version, or does not fit its description.
        ConfigurationError: `changes` names a key that the description does not have.
    """
    record, tensors = _read_weights(path)
    description = change_description(record.description, changes or {})
    try:
        task = find_task(record.task).load().from_description(description)
        network = task.build_network()
    except ModelFolderError:
        raise
    except (PulvinarError, ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        if changes:
            raise ConfigurationError(f"the model cannot be changed so ({_listed(changes)}): {_told(error)}") from error
        raise ModelFolderError(
            f"{record.folder}: this version cannot build the network it describes: {error}",
            hint=f"It was written by pulvinar {record.made_with.get('pulvinar', 'unknown')}; use that version.",
        ) from error
    _check_fit(record, network, tensors)
    network.load_state_dict(tensors)
    return LoadedModel(task, network.to(device).eval(), record)


def change_description(description: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `description` in which dotted keys have other values. Raises `ConfigurationError` for unknown keys."""
    changed: dict[str, Any] = json.loads(json.dumps(description))
    for key, value in changes.items():
        *parents, last = key.split(".")
        level: Any = changed
        for parent in parents:
            level = level.get(parent) if isinstance(level, dict) else None
        if not isinstance(level, dict) or last not in level:
            allowed = ", ".join(level) if isinstance(level, dict) else ", ".join(changed)
            raise ConfigurationError(f"the model has no setting {key!r} (allowed there: {allowed})")
        level[last] = value
    return changed


def _read_weights(path: Path) -> tuple[ModelRecord, dict[str, Tensor]]:
    """Record and weights that belong together, also while another process replaces the folder."""
    for attempt in range(_ATTEMPTS):
        record = read_model_record(path)
        weights = record.folder / WEIGHTS
        if not weights.is_file():
            raise ModelFolderError(f"{record.folder} has no {WEIGHTS}", hint="Copy the whole model folder again.")
        before = weights.stat()
        found = _sha256(weights)
        if found == record.sha256:
            tensors = _load_tensors(weights)
            after = weights.stat()
            if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
                return record, tensors
        elif attempt == _ATTEMPTS - 1 or read_model_record(path) == record:
            break
    raise ModelFolderError(
        f"{weights} is not the file that {RECORD} was written for: "
        f"sha256 {found[:12]}…, expected {record.sha256[:12]}…",
        hint="It is damaged, or only one of the two files was copied; copy the whole folder again.",
    )


def _load_tensors(weights: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(weights)
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelFolderError(
            f"{weights} cannot be read: {error}", hint="Copy the model folder again, or train again."
        ) from error
    return tensors


def _check_fit(record: ModelRecord, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = network.state_dict()
    problems = []
    if missing := sorted(set(wanted) - set(tensors)):
        problems.append(f"missing: {_listed(missing)}")
    if unexpected := sorted(set(tensors) - set(wanted)):
        problems.append(f"unexpected: {_listed(unexpected)}")
    if shapes := [
        f"{name} {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(tensors))
        if tensors[name].shape != wanted[name].shape
    ]:
        problems.append(f"other shapes: {_listed(shapes)}")
    if problems:
        raise ModelFolderError(
            f"{record.folder / WEIGHTS} does not fit the network that {RECORD} describes; " + "; ".join(problems),
            hint=f"It was written by pulvinar {record.made_with.get('pulvinar', 'unknown')}; use that version.",
        )


def _told(error: Exception) -> str:
    """What was wrong; of a settings model's errors, the values that do not fit."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    wrong = dict.fromkeys(f"{problem['loc'][0]}: {problem['input']!r} is not allowed" for problem in error.errors())
    return "; ".join(wrong)


def _listed(values: Any, limit: int = 5) -> str:
    names = [str(value) for value in values]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


_KIND_NAMES = {str: "text", dict: "mapping", int: "whole number"}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    from pipelines.experiment.environment import git_commit, pulvinar_version

    return {
        "pulvinar": pulvinar_version(),
        "torch": version("torch"),
        "commit": git_commit(Path(__file__).parent),
    }


def _plain(value: Any, key: str) -> Any:
    """Plain YAML values; absolute paths are refused, because a model folder leaves the machine."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry, f"{key}.{name}") for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
    if hasattr(value, "tolist") and not isinstance(value, str):
        return _plain(value.tolist(), key)
    if isinstance(value, str):
        if os.path.isabs(value) and os.path.dirname(value) != "/" and os.path.exists(os.path.dirname(value)):
            raise ValueError(f"{key} holds an absolute path, {value!r}; a model folder must not name this machine")
        return str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value)
    raise ValueError(f"{key} is {value!r}, a {type(value).__name__}; model.yaml holds plain values only")


def _dump(content: Mapping[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


def _parse(path: Path) -> dict[str, Any]:
    """Reads YAML that can hold values and nothing else: no tags, no aliases, no endless depth."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it uses aliases, which a model folder never does")
            return super().compose_node(parent, index)

    try:
        if path.stat().st_size > _RECORD_LIMIT:
            raise yaml.YAMLError(f"it is larger than {_RECORD_LIMIT} bytes")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())[:300]
        raise ModelFolderError(f"{path} cannot be read: {problem}", hint="Copy the model folder again.") from error
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} holds no mapping", hint="Copy the model folder again.")
    return content
