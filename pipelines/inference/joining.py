"""What is put together from the results of many items: `OUT/joined`, a folder that appears whole or not at all.

It is made again at the end of each call, from every result in the output folder that this model and these settings
made: a second call adds what is new. A call that is killed or interrupted leaves the one that was there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pipelines.errors import ConfigurationError
from pipelines.folders import sync_folder
from pipelines.inference.ledger import Record
from pipelines.inference.outfolder import JOINED, OutFolder
from pipelines.inference.source import JoiningSource, PredictorSource
from pipelines.inference.worker import PROVENANCE
from pipelines.task import FinishedItem

__all__ = ["check_joined", "join_results"]


def check_joined(source: PredictorSource, folder: OutFolder) -> None:
    """Raises `ConfigurationError` where something else stands in the place of the joined tables."""
    if isinstance(source, JoiningSource) and source.joins and folder.is_foreign(JOINED):
        raise ConfigurationError(
            f"{folder.result(JOINED)} is there and was not written by a prediction",
            hint="Name another output folder, or move it elsewhere.",
        )


def join_results(source: PredictorSource, folder: OutFolder, records: Mapping[str, Record]) -> int:
    """Joins all results of this model and these settings, and returns how many they were; 0 where nothing is joined."""
    if not (isinstance(source, JoiningSource) and source.joins):
        return 0
    results = [
        FinishedItem(record.item_id, record.source, folder.result(record.item_id))
        for record in records.values()
        if record.outcome in ("ok", "skipped")
        and (record.digests.model, record.digests.settings) == (source.model_digest, source.settings_digest)
        and folder.is_result(record.item_id)
    ]
    staged = folder.staging_of(JOINED)
    staged.mkdir()
    source.join(results, staged)
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    if not files:
        folder.discard(staged)
        return 0
    said = {
        "format": 1,
        "joined": len(results),
        "model_digest": source.model_digest,
        "settings_digest": source.settings_digest,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "outputs": [
            {"path": path.relative_to(staged).as_posix(), "size": path.stat().st_size, "sha256": _sha256(path)}
            for path in files
        ],
    }
    (staged / PROVENANCE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    sync_folder(staged)
    folder.publish(staged, JOINED)
    return len(results)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
