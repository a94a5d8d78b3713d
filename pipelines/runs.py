"""The run folder: where everything of one run lies.

RUN/
  status.json          state, times, tracking run id, exit reason
  config.yaml          the resolved configuration
  provenance.json      dotted key → where its value came from
  environment.json     versions, device, commit, seed
  cases.csv            case_id, group, split, labels, facts (paths relative to the data root)
  splits.json          part → case ids, and how they were drawn
  excluded.csv         cases set aside, with reasons
  history.csv          epoch, step, seconds, lr, losses, validation metrics
  checkpoints/         last/ and best/ (safetensors + JSON)
  evaluation/          PART.cases.csv (case × class × metric) and PART.summary.csv
  figures/             NAME.png, NAME.csv, index.json
  model/               the model folder: model.safetensors + model.yaml
  folds/               one run folder for each fold of a cross-validation
  tracking/            what the tracking server has not received yet
  report.html          one self-contained file
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["RunFolder", "write_atomically"]


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a whole file or none: to a temporary file in the same folder, synced, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data.encode() if isinstance(data, str) else data
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    root: Path

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def provenance(self) -> Path:
        return self.root / "provenance.json"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def cases(self) -> Path:
        return self.root / "cases.csv"

    @property
    def splits(self) -> Path:
        return self.root / "splits.json"

    @property
    def excluded(self) -> Path:
        return self.root / "excluded.csv"

    @property
    def history(self) -> Path:
        return self.root / "history.csv"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def folds(self) -> Path:
        return self.root / "folds"

    @property
    def tracking(self) -> Path:
        return self.root / "tracking"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def read_status(self) -> dict[str, Any]:
        """What `status.json` says; empty when there is none."""
        if not self.status.is_file():
            return {}
        status: dict[str, Any] = json.loads(self.status.read_text())
        return status

    def update_status(self, **changes: Any) -> None:
        """Merges `changes` into `status.json`."""
        write_atomically(self.status, json.dumps(self.read_status() | changes, indent=2, sort_keys=True) + "\n")

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Writes plain values as JSON, whole or not at all."""
        write_atomically(path, json.dumps(value, indent=2) + "\n")
