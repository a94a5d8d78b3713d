"""`make demo`: train, judge and track a small model on two cores, then predict scans it has not seen.

On hippocampus MRI of the Medical Segmentation Decathlon where `PULVINAR_DATA` holds them, else on synthetic volumes.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from pipelines.errors import ExitCode
from pipelines.fixtures import data_root
from workflows.console import next_steps, say
from workflows.main import run as pulvinar

__all__ = ["demonstrate"]

OUTPUT = Path("runs")
SCANS = 3


def demonstrate() -> int:
    """Runs the demonstration; returns the exit code of the first command that fails."""
    started = time.monotonic()
    root = data_root()
    real = root is not None and (root / "msd_hippocampus" / "dataset.json").is_file()
    workflow = "medical/hippocampus-quick" if real else "medical/phantom"
    if not real:
        say("no real data on this machine: the demonstration uses SYNTHETIC volumes and says nothing about anatomy")
    code = _type("run", workflow, f"output={OUTPUT}")
    if code:
        return code
    from pipelines.experiment.folders import list_runs

    name = workflow.rpartition("/")[2]
    latest = list_runs(OUTPUT, name)[-1]
    predictions = OUTPUT / f"{name}-predictions"
    scans = _unseen_scans(latest.cases, root if real else None)
    code = _type("predict", str(latest.root), *map(str, scans), "--out", str(predictions))
    if code:
        return code
    say(f"finished in {(time.monotonic() - started) / 60:.1f} minutes")
    own = "pulvinar run medical/hippocampus" if real else "pulvinar init medical/segmentation my-project"
    next_steps({"report": latest.report, "predictions": predictions}, ["pulvinar dashboard", own])
    return ExitCode.OK


def _type(*arguments: str) -> int:
    sys.stderr.write(f"\n$ pulvinar {' '.join(arguments)}\n")
    return pulvinar(list(arguments))


def _unseen_scans(cases: Path, root: Path | None) -> list[Path]:
    """A few images of the test part, and DICOM series of the same region where there are some."""
    with cases.open(encoding="utf-8", newline="") as file:
        images = [row["image"] for row in csv.DictReader(file) if row["split"] == "test"]
    if root is None:
        return [OUTPUT / "phantom-volumes" / image for image in images[:SCANS]]
    scans = [root / "msd_hippocampus" / image for image in images[:SCANS]]
    return scans + sorted((root / "clinical_scans" / "dicom").glob("mr_hippocrop_study*"))


if __name__ == "__main__":
    sys.exit(demonstrate())
