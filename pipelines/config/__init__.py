"""Configuration is data: YAML in, a validated and frozen model out, and where each value came from.

    from pipelines.config import dump_yaml, explain, load_workflow

    resolved = load_workflow("workflows/medical/hippocampus.yaml", ["train.lr=1e-4"])
    print(explain(resolved, "train.lr"))

Names are imported when they are first used: settings modules import this package, and need only its `Section`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipelines.config.section import Section

if TYPE_CHECKING:
    from pipelines.config.dump import dump_yaml
    from pipelines.config.editors import json_schema
    from pipelines.config.explaining import Explanation, explain
    from pipelines.config.load import ResolvedWorkflow, load_workflow
    from pipelines.config.nodes import Origin
    from pipelines.config.paths import FilePath
    from pipelines.config.variants import union_of, variant

__all__ = [
    "Explanation",
    "FilePath",
    "Origin",
    "ResolvedWorkflow",
    "Section",
    "dump_yaml",
    "explain",
    "json_schema",
    "load_workflow",
    "union_of",
    "variant",
]

_HOMES = {
    "Explanation": "explaining",
    "FilePath": "paths",
    "Origin": "nodes",
    "ResolvedWorkflow": "load",
    "dump_yaml": "dump",
    "explain": "explaining",
    "json_schema": "editors",
    "load_workflow": "load",
    "union_of": "variants",
    "variant": "variants",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
