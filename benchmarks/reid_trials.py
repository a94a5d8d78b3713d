"""What benchmarks of re-identification networks share: trainings that are kept as they end, and paired differences.

Each training is one row of a file (JSON lines): workflow, network, seed, settings, and the value of every judged case.
A second call trains only what the file lacks, so that a long comparison can be stopped and taken up again. The value of
a query is its average precision (retrieval), that of a picture whether its class was found (classification).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, parser, print_table

__all__ = ["Judged", "Trial", "Wanted", "compared", "difference", "made_up", "options", "run_trials", "train_once"]

RESAMPLES, CONFIDENCE = 2000, 0.95
Judged = dict[str, tuple[str, float]]
"""Case id → group and value."""
Wanted = tuple[str, str, int, tuple[str, ...]]
"""Workflow, network, seed and settings of a training."""


def options(description: str, sets: Sequence[str], networks: Sequence[str], name: str) -> argparse.ArgumentParser:
    """Options of a comparison of networks."""
    made = parser(description, turns=1)
    made.add_argument("--sets", nargs="+", default=list(sets), choices=list(sets))
    made.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    made.add_argument("--networks", nargs="+", default=list(networks), choices=list(networks))
    made.add_argument("--change", nargs="*", default=[], help="more settings of every network, as for `pulvinar run`")
    made.add_argument("--rows", type=Path, default=RESULTS / f"{name}.jsonl", help="file of finished trainings")
    made.add_argument("--most", type=int, help="end after so many trainings; all by default")
    return made


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


def run_trials(wanted: Sequence[Wanted], rows: Path, most: int | None = None) -> dict[Wanted, Trial] | None:
    """Trains what a file lacks of the trainings that are wanted.

    Args:
        wanted: The trainings.
        rows: The file of finished trainings.
        most: How many are trained now; None for all.

    Returns:
        All of them; None where some are left.
    """
    there = {_key(trial) for trial in read_trials(rows)}
    for key in [key for key in wanted if key not in there][:most]:
        trial = train_once(*key)
        write_trial(rows, trial)
        told = f"{trial.workflow}, seed {trial.seed}, {trial.network}: {trial.mean:.4f}"
        print(f"{told} in {trial.took['train seconds']:.0f} s", flush=True)
    done = {_key(trial): trial for trial in read_trials(rows)}
    if left := sum(key not in done for key in wanted):
        print(f"{left} of {len(wanted)} trainings are left; the same command goes on")
        return None
    return {key: done[key] for key in wanted}


def _key(trial: Trial) -> Wanted:
    return trial.workflow, trial.network, trial.seed, trial.changes


def compared(name: str, trials: Sequence[Trial], first: str) -> dict[str, Any]:
    """Means of the networks on one set, and their paired differences to one of them, as a table and as values."""
    found: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[trial.network].append(trial)
    rows, told = [], {}
    for network, own in found.items():
        mean = sum(trial.mean for trial in own) / len(own)
        told[network] = {"mean": mean, "seeds": [trial.mean for trial in own], "took": [trial.took for trial in own]}
        apart = ""
        if network != first and first in found:
            paired = difference([trial.values for trial in found[first]], [trial.values for trial in own])
            told[network][f"difference to {first}"] = paired
            apart = f"{paired['mean']:+.4f} ({paired['low']:+.4f} to {paired['high']:+.4f})"
        seconds = sum(trial.took["train seconds"] for trial in own) / len(own)
        rows.append((name, network, f"{mean:.4f}", apart, own[0].took["parameters"], f"{seconds:.0f} s"))
    print_table(("set", "network", "mean", f"difference to {first} (95 %)", "parameters", "training"), rows)
    return told


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
    metric = "map" if config.task == "reid/retrieval" else "correct"
    groups = {case.case_id: case.group for case in test}
    values = {
        row.case_id: (groups[row.case_id], row.value)
        for row in judgement.rows
        if row.metric == metric and row.value == row.value
    }
    if not values:
        raise ValueError(f"{workflow}: no case of the test part has a {metric}")
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
