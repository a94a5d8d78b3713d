"""What must be the same for a training to go on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.cases import Case
from pipelines.errors import ConfigurationError, Problem
from pipelines.training.settings import TrainingSettings

__all__ = ["check_fingerprint", "make_fingerprint"]

_FREE = ("workers", "device", "max_minutes", "log_every", "checkpoint_every", "on_bad_case")


def make_fingerprint(
    settings: TrainingSettings,
    *,
    seed: int,
    training: Sequence[Case],
    validation: Sequence[Case],
    samples: int,
    metric: str,
) -> dict[str, Any]:
    """Everything that decides the weights, as plain values by dotted key."""
    fingerprint = _flatten(settings.model_dump(mode="json", exclude=set(_FREE)), "train")
    fingerprint |= {
        "seed": seed,
        "training cases": _digest(training),
        "validation cases": _digest(validation),
        "training samples": samples,
        "selection metric": metric,
    }
    return fingerprint


def check_fingerprint(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises `ConfigurationError` that names each key that is not what it was."""
    changed = [key for key in {**saved, **current} if saved.get(key) != current.get(key)]
    if changed:
        raise ConfigurationError(
            [Problem("", key, f"was {_shown(saved, key)}, is {_shown(current, key)}") for key in changed],
            hint="A training goes on only as it was started. Set these back, or start a new run without --resume.",
        )


def _flatten(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: leaf for part, item in value.items() for name, leaf in _flatten(item, f"{key}.{part}").items()}
    return {key: value}


def _digest(cases: Sequence[Case]) -> str:
    names = hashlib.sha256("\n".join(case.case_id for case in cases).encode()).hexdigest()[:12]
    return f"{len(cases)} cases ({names})"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not there"
