"""What benchmarks of re-identification networks share: trainings that are kept as they end, and paired differences.

Each training is one row of a file (JSON lines): workflow, network, seed, settings, and the value of every judged case.
A second call trains only what the file lacks, so that a long comparison can be stopped and taken up again. The value of
a query is its average precision (retrieval), that of a picture whether its class was found (classification).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Judged", "Trial", "difference", "made_up", "missing", "read_trials", "train_once", "write_trial"]

RESAMPLES, CONFIDENCE = 2000, 0.95
Judged = dict[str, tuple[str, float]]
"""Case id → group and value."""


@dataclass(frozen=True)
class Trial:
    """One training and its test part.

    Attributes:
        workflow: Name in the catalogue.
        network: Which of the networks that are compared.
        seed: Seed of parts, weights and batches.
        changes: Settings of this network and of all networks.
        values: Case id → group and value.
        took: Seconds and counts.
    """

    workflow: str
    network: str
    seed: int
    changes: tuple[str, ...]
    values: Judged
    took: Mapping[str, Any]

    @property
    def mean(self) -> float:
        """Mean over the judged cases."""
        return float(np.mean([value for _, value in self.values.values()]))


def read_trials(path: Path) -> list[Trial]:
    """The trainings of a file; none where there is no such file."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for row in rows:
        row["changes"] = tuple(row["changes"])
        row["values"] = {case: (group, value) for case, (group, value) in row["values"].items()}
    return [Trial(**row) for row in rows]


def write_trial(path: Path, trial: Trial) -> None:
    """Adds a training to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(trial)) + "\n")


def missing(done: Sequence[Trial], wanted: Sequence[tuple[str, str, int, tuple[str, ...]]]) -> list[int]:
    """Places of those wanted (workflow, network, seed, changes) that no training of the file is."""
    there = {(trial.workflow, trial.network, trial.seed, trial.changes) for trial in done}
    return [place for place, key in enumerate(wanted) if key not in there]


def train_once(workflow: str, network: str, seed: int, changes: Sequence[str]) -> Trial:
    """Trains one network on the whole training part, without validation, and judges its test part."""
    from safetensors.torch import load_file

    from pipelines.config import load_workflow
    from pipelines.experiment.judgement import judge_cases
    from pipelines.experiment.preparation import prepare_cases
    from pipelines.runs import RunFolder
    from pipelines.task import find_task
    from pipelines.training import train
    from workflows.catalogue import find_workflow

    told = [*changes, f"seed={seed}", "split.validation=0", "train.device=cpu"]
    config = load_workflow(find_workflow(workflow), told).config
    task = find_task(config.task).load()(config)
    cases = prepare_cases(task)
    training, test = cases.part("train"), cases.part("test")
    task.fit(training)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pulvinar-trial-") as folder:
        result = train(task, training, (), RunFolder(Path(folder)), settings=config.train, seed=seed)
        weights = load_file(result.weights)
    seconds = time.perf_counter() - started
    made = task.build_network()
    made.load_state_dict(weights)
    judgement = judge_cases(task, task.predictor(made, device=next(made.parameters()).device), test)
    metric = "map" if config.task == "reid/retrieval" else "recall"
    groups = {case.case_id: case.group for case in test}
    values = {
        row.case_id: (groups[row.case_id], row.value)
        for row in judgement.rows
        if row.metric == metric and row.value == row.value
    }
    took = {
        "train seconds": round(seconds, 1),
        "steps": result.steps_done,
        "parameters": sum(parameter.numel() for parameter in made.backbone.parameters()),  # type: ignore[union-attr]
        "training pictures": len(training),
    }
    return Trial(workflow, network, seed, tuple(changes), values, took)


def difference(first: Sequence[Judged], second: Sequence[Judged]) -> dict[str, Any]:
    """Mean paired difference of the second to the first over seeds.

    The interval is the percentile interval of resamples of groups within each seed; the weights of a network are not
    drawn anew, so `seeds` tells how far seeds differ beside that.
    """
    rng = np.random.default_rng(0)
    draws, means = [], []
    for left, right in zip(first, second, strict=True):
        if left.keys() != right.keys():
            raise ValueError("the two networks were not judged on the same cases")
        by_group: dict[str, list[float]] = defaultdict(list)
        for case_id, (group, value) in left.items():
            by_group[group].append(right[case_id][1] - value)
        sums = np.array([sum(values) for values in by_group.values()])
        counts = np.array([len(values) for values in by_group.values()])
        picked = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
        draws.append(sums[picked].sum(1) / counts[picked].sum(1))
        means.append(sums.sum() / counts.sum())
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"mean": float(np.mean(means)), "low": float(low), "high": float(high), "seeds": [float(x) for x in means]}


def made_up(folder: Path) -> list[str]:
    """A few pictures of made-up identities for `--quick`, and the settings that read them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for identity in range(6):
        colour = rng.integers(40, 215, 3)
        for camera in (1, 2):
            pixels = np.clip(colour + rng.integers(-30, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{identity}_cam{camera}.png")
    return [
        f"data.root={folder}",
        "data.pattern='{identity}_cam{camera}.png'",
        "data.identity=null",
        "split.test=0.5",
        "input.size=[32,32]",
        "train.batch_size=4",
        "train.epochs=1",
        "train.validate_every=1",
    ]
