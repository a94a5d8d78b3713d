"""What a run writes down about itself before it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.cases import PARTS
from pipelines.config import ResolvedWorkflow, dump_yaml
from pipelines.experiment.preparation import PreparedCases
from pipelines.runs import RunFolder, write_atomically

if TYPE_CHECKING:
    from pipelines.tracking import Tracker

__all__ = ["save_configuration", "track_start", "write_excluded"]


def save_configuration(run: RunFolder, resolved: ResolvedWorkflow) -> None:
    """The resolved configuration, and where each value came from; kept as they are when a run is resumed."""
    if not run.config.is_file():
        write_atomically(run.config, dump_yaml(resolved.config))
        run.write_json(run.provenance, {key: str(origin) for key, origin in sorted(resolved.origins.items())})


def write_excluded(run: RunFolder, cases: PreparedCases) -> None:
    """The cases that were set aside, with reasons."""
    import pandas as pd

    rows = [(item.case_id, item.reason, item.hint) for item in cases.excluded]
    write_atomically(run.excluded, pd.DataFrame(rows, columns=["case_id", "reason", "hint"]).to_csv(index=False))


def track_start(
    tracker: Tracker,
    resolved: ResolvedWorkflow,
    run: RunFolder,
    cases: PreparedCases,
    environment: Mapping[str, Any],
) -> None:
    """What is known before training: settings, tags, the data set, and the files that say so."""
    import yaml

    tracker.log_parameters(yaml.safe_load(dump_yaml(resolved.config)))
    tracker.set_tags(
        {
            "task": resolved.config.task,
            "seed": str(resolved.config.seed),
            "device": str(environment["device"]),
            "commit": str(environment["commit"]),
            "pulvinar": str(environment["pulvinar"]),
            "data_digest": str(environment["data_digest"]),
        }
    )
    tracker.log_data(
        name=cases.table.name,
        digest=str(environment["data_digest"]),
        parts={part: len(cases.part(part)) for part in PARTS},
    )
    for file in (run.config, run.provenance, run.environment):
        tracker.log_files(file)
