"""Dual cross-attention (DCAL) against the same transformer without it, with the same budget: what each branch is worth.

Four networks learn from one training part with the same batches, steps and seed, and are judged on the same test
part: the plain transformer, with the local branch (GLCA), the pair branch (PWCA), both. Each seed draws parts,
weights and batches of its own. The value of a query is its average precision (vehicles, persons), that of a picture
whether its class was found (flowers). The difference to the plain network is taken for each query or picture, averaged
over a part and over seeds; its interval comes from resamples of identities (pictures for flowers) within each seed.

    python benchmarks/dcal_ablation.py                          three sets, three seeds, the workflows' own epochs
    python benchmarks/dcal_ablation.py --sets vehicles --seeds 3 --epochs 10
    python benchmarks/dcal_ablation.py --sets persons --change model.dim=64 model.depth=4
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, parser, print_table, save

VARIANTS: dict[str, list[str]] = {
    "plain": ["model.dcal=null"],
    "GLCA": ["model.dcal.pairs=false"],
    "PWCA": ["model.dcal.local=false"],
    "both": [],
}
SETS = ("vehicles", "persons", "flowers")
RESAMPLES, CONFIDENCE = 2000, 0.95
Judged = dict[str, tuple[str, float]]
"""Case id → group and value."""


_CASES: dict[tuple[str, int], Any] = {}


def options() -> argparse.Namespace:
    made = parser(__doc__ or "", turns=1)
    made.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    made.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    made.add_argument("--epochs", type=int, help="epochs of every network; those of the workflows by default")
    made.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    made.add_argument("--change", nargs="*", default=[], help="settings of every network, as for `pulvinar run`")
    return made.parse_args()


def judged(name: str, variant: str, seed: int, changes: list[str]) -> tuple[Judged, dict[str, Any]]:
    """Trains one network; the value of each case of its test part, and what it took."""
    from safetensors.torch import load_file

    from pipelines.config import load_workflow
    from pipelines.experiment.judgement import judge_cases
    from pipelines.experiment.preparation import prepare_cases
    from pipelines.runs import RunFolder
    from pipelines.task import find_task
    from pipelines.training import train
    from workflows.catalogue import find_workflow

    path = find_workflow(f"reid/{name}-dcal")
    told = [*VARIANTS[variant], f"seed={seed}", "split.validation=0", "train.device=cpu", *changes]
    config = load_workflow(path, told).config
    task = find_task(config.task).load()(config)
    if (name, seed) not in _CASES:  # the parts of a seed are the same for every network
        _CASES[name, seed] = prepare_cases(task)
    cases = _CASES[name, seed]
    training, test = cases.part("train"), cases.part("test")
    task.fit(training)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pulvinar-dcal-") as folder:
        run = RunFolder(Path(folder))
        result = train(task, training, (), run, settings=config.train, seed=seed)
        weights = load_file(result.weights)
    seconds = time.perf_counter() - started
    network = task.build_network()
    network.load_state_dict(weights)
    predictor = task.predictor(network, device=next(network.parameters()).device)
    started = time.perf_counter()
    judgement = judge_cases(task, predictor, test)
    metric = "map" if config.task == "reid/retrieval" else "recall"
    values = {
        row.case_id: (next(case.group for case in test if case.case_id == row.case_id), row.value)
        for row in judgement.rows
        if row.metric == metric and row.value == row.value
    }
    parameters = sum(parameter.numel() for parameter in network.parameters())
    took = {
        "train seconds": round(seconds, 1),
        "judge seconds": round(time.perf_counter() - started, 1),
        "parameters": parameters,
        "training pictures": len(training),
        "judged": len(values),
    }
    return values, took


def difference(plain: list[Judged], other: list[Judged]) -> dict[str, float]:
    """Mean paired difference over seeds, with a percentile interval over groups within seeds."""
    rng = np.random.default_rng(0)
    draws, means = [], []
    for first, second in zip(plain, other, strict=True):
        by_group: dict[str, list[float]] = defaultdict(list)
        for case_id, (group, value) in first.items():
            by_group[group].append(second[case_id][1] - value)
        sums = np.array([sum(values) for values in by_group.values()])
        counts = np.array([len(values) for values in by_group.values()])
        picked = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
        draws.append(sums[picked].sum(1) / counts[picked].sum(1))
        means.append(sums.sum() / counts.sum())
    low, high = np.quantile(np.mean(draws, axis=0), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"mean": float(np.mean(means)), "low": float(low), "high": float(high), "seeds": [float(x) for x in means]}


def made_up(folder: Path) -> list[str]:
    """A few pictures of made-up identities, for `--quick`."""
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
        "model.dim=16",
        "model.depth=2",
        "model.heads=2",
        "train.batch_size=4",
    ]


def main() -> None:
    from workflows.tasks import register_tasks

    given = options()
    register_tasks()
    about = environment()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="pulvinar-pictures-") as folder:
        changes = list(given.change)
        if given.quick:
            given.sets, given.seeds, given.epochs = ["vehicles"], 1, 1
            changes += made_up(Path(folder))
        if given.epochs:
            changes += [f"train.epochs={given.epochs}", f"train.validate_every={given.epochs}"]
        for name in given.sets:
            results[name] = ablate(name, given, changes)
            save(given, "dcal_ablation", about, results)


def ablate(name: str, given: argparse.Namespace, changes: list[str]) -> dict[str, Any]:
    """All variants and seeds of one set."""
    values: dict[str, list[Judged]] = defaultdict(list)
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed in range(given.seeds):
        for variant in given.variants:
            found, took = judged(name, variant, seed, changes)
            mean = float(np.mean([value for _, value in found.values()]))
            values[variant].append(found)
            runs[variant].append({"seed": seed, "value": round(mean, 4), **took})
            print(f"{name}, seed {seed}, {variant}: {mean:.4f} in {took['train seconds']:.0f} s", flush=True)
    rows, told = [], {}
    for variant in given.variants:
        mean = float(np.mean([run["value"] for run in runs[variant]]))
        told[variant] = {"mean": round(mean, 4), "runs": runs[variant]}
        apart = ""
        if variant != "plain" and "plain" in values:
            found = difference(values["plain"], values[variant])
            told[variant]["difference to plain"] = found
            apart = f"{found['mean']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
        rows.append((name, variant, f"{mean:.4f}", apart, runs[variant][0]["parameters"]))
    print_table(("set", "network", "mean", "difference to plain (95 %)", "parameters"), rows)
    return told


if __name__ == "__main__":
    main()
