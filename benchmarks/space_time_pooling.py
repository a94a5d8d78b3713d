"""What becomes of the tokens of a clip: choices of pooling and mixing on one task, with the same features.

Fights in surveillance videos (`video/fights`), the workflow's own motion features of a frozen encoder, its five folds
of sources. Each choice learns with the workflow's settings on the training part of each fold and is judged on its test
part; intervals are over sources. With `--inside` each choice is also judged inside the training part of every fold, by
three further folds of its sources, so that a choice can be made without test parts: "chosen inside" takes for each fold
the choice that was best in there, and its accuracy pays for the choosing.

    python benchmarks/space_time_pooling.py                        accuracies of all choices
    python benchmarks/space_time_pooling.py --choices mean max --folds 0
    python benchmarks/space_time_pooling.py --part time            operations and time, choices taking turns
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, parser, print_table, save

NONE = ["model.depth=0"]
CHOICES: dict[str, list[str]] = {
    "mean": [*NONE, "model.pool=mean"],
    "max": [*NONE, "model.pool=max"],
    "frames": [*NONE, "model.pool=frames"],
    "attention": [*NONE, "model.pool=attention"],
    "full + mean": ["model.mixer={name: full, heads: 4}", "model.pool=mean"],
    "full + attention": ["model.mixer={name: full, heads: 4}", "model.pool=attention"],
    "linear + mean": ["model.mixer={name: linear, heads: 4}", "model.pool=mean"],
    "window + mean": ["model.mixer={name: window, heads: 4, window: [4, 2, 2]}", "model.pool=mean"],
    "temporal stride + mean": ["model.mixer={name: temporal_stride, heads: 4}", "model.pool=mean"],
    "deformable + mean": ["model.mixer={name: deformable_3d, heads: 4}", "model.pool=mean"],
    "cross-modal": [],
}
INNER, RESAMPLES, CLIPS = 3, 2000, 8


def options() -> argparse.Namespace:
    made = parser(__doc__ or "", turns=15)
    made.add_argument("--part", choices=["accuracy", "time"], default="accuracy")
    made.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    made.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--inside", action="store_true", help="also judge inside training parts; four times as long")
    made.add_argument("--change", nargs="*", default=[], help="settings of every choice, as for `pulvinar run`")
    return made.parse_args()


def task_of(choice: str, given: argparse.Namespace) -> Any:
    """The task of a choice, with the workflow's settings."""
    from pipelines.config import load_workflow
    from pipelines.task import find_task
    from workflows.catalogue import find_workflow

    name = "video/fights-cross-modal" if choice == "cross-modal" else "video/fights"
    told = [*CHOICES[choice], f"seed={given.seed}", "train.device=cpu", *given.change]
    config = load_workflow(find_workflow(name), told).config
    return find_task(config.task).load()(config)


def divided(table: Any, folds: int, fold: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Training and test cases of a fold of sources."""
    from pipelines.splits import SplitSettings, draw_splits

    settings = SplitSettings(folds=folds, fold=fold, validation=0, stratify="action")
    drawn, _ = draw_splits(table, settings, seed)
    return [one for one in drawn if one.split == "train"], [one for one in drawn if one.split == "test"]


def judged(task: Any, training: Sequence[Any], test: Sequence[Any], seed: int) -> dict[str, float]:
    """Trains on one part: case id of the other → probability of its own class."""
    from safetensors.torch import load_file

    from pipelines.experiment.judgement import judge_cases
    from pipelines.runs import RunFolder
    from pipelines.training import train

    task.fit(training)
    with tempfile.TemporaryDirectory(prefix="pulvinar-pooling-") as folder:
        result = train(task, training, (), RunFolder(Path(folder)), settings=task.config.train, seed=seed)
        weights = load_file(result.weights)
    network = task.build_network()
    network.load_state_dict(weights)
    judgement = judge_cases(task, task.predictor(network, device=next(network.parameters()).device), test)
    if judgement.failures:
        raise SystemExit(f"no prediction: {judgement.failures}")
    return {name: float(seen[f"probability/{seen['truth']}"]) for name, seen in judgement.observed.items()}


def right(chances: dict[str, float]) -> float:
    return float(np.mean([chance > 0.5 for chance in chances.values()]))


def interval(chances: dict[str, float], groups: dict[str, str]) -> tuple[float, float]:
    """Percentile interval of 95 % of the accuracy, over sources."""
    names = sorted(set(groups.values()))
    hits = np.array([sum(chances[one] > 0.5 for one in chances if groups[one] == name) for name in names])
    counts = np.array([sum(groups[one] == name for one in chances) for name in names])
    drawn = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.quantile(hits[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(low), float(high)


def accuracies(given: argparse.Namespace, about: dict[str, Any]) -> None:
    results: dict[str, Any] = {}
    inside: dict[str, dict[int, float]] = {}
    outside: dict[str, dict[int, dict[str, float]]] = {}
    groups = {case.case_id: case.group for case in task_of(given.choices[0], given).read_cases()}
    for choice in given.choices:
        started = time.perf_counter()
        outside[choice], inside[choice] = of_folds(choice, given)
        results[choice] = summed(outside[choice], groups)
        results[choice] |= {"inside": inside[choice], "seconds": round(time.perf_counter() - started, 1)}
        print(f"{choice}: {results[choice]['accuracy']:.3f}", flush=True)
        save(given, "space_time_pooling", about, results)
    if given.inside:
        best = {fold: max(given.choices, key=lambda choice: inside[choice][fold]) for fold in given.folds}
        results["chosen inside"] = summed({fold: outside[best[fold]][fold] for fold in given.folds}, groups)
        results["chosen inside"]["chosen"] = best
        save(given, "space_time_pooling", about, results)
    rows = []
    for choice, told in results.items():
        low, high = told["interval"]
        within = f"{statistics.mean(told['inside'].values()):.3f}" if told.get("inside") else ""
        rows.append((choice, f"{told['accuracy']:.3f}", f"{low:.3f} to {high:.3f}", within))
    print_table(("choice", "accuracy", "95 % over sources", "inside training parts"), rows)


def of_folds(choice: str, given: argparse.Namespace) -> tuple[dict[int, dict[str, float]], dict[int, float]]:
    """Of each fold what the test part was judged to be, and the accuracy inside the training part where asked for."""
    from pipelines.cases import CaseTable

    task = task_of(choice, given)
    table = task.read_cases()
    outside, inside = {}, {}
    for fold in given.folds:
        training, test = divided(table, 5, fold, given.seed)
        if given.inside:
            held = _undivided(CaseTable(tuple(training), table.root, table.name))
            found: dict[str, float] = {}
            for inner in range(INNER):
                found |= judged(task, *divided(held, INNER, inner, given.seed), given.seed)
            inside[fold] = right(found)
        outside[fold] = judged(task, training, test, given.seed)
    return outside, inside


def summed(folds: dict[int, dict[str, float]], groups: dict[str, str]) -> dict[str, Any]:
    """Accuracy over all folds, its interval over sources, and the accuracy of each fold."""
    merged = {name: value for values in folds.values() for name, value in values.items()}
    return {
        "accuracy": right(merged),
        "interval": interval(merged, {name: groups[name] for name in merged}),
        "folds": {fold: right(values) for fold, values in folds.items()},
    }


def _undivided(table: Any) -> Any:
    from dataclasses import replace

    return replace(table, cases=tuple(replace(case, split="") for case in table.cases))


def times(given: argparse.Namespace, about: dict[str, Any]) -> None:
    """Parameters, operations and time from features of clips to logits, choices taking turns."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from domains.video.clip_action.building import build_network
    from domains.video.clip_action.plan import ClipPlan

    torch.set_num_threads(1)
    plan = ClipPlan(("calm", "fight"), (1, 1), 2.0, 2.0)
    networks, inputs, taken = {}, {}, {choice: [] for choice in given.choices}
    for choice in given.choices:
        config = task_of(choice, given).config
        network = build_network(config.model, plan, pretrained=False).eval()
        grid = (len(config.model.streams), config.clip.frames, *config.model.grid, network.encoder.channels)
        networks[choice], inputs[choice] = network, torch.randn(CLIPS, *grid)
    for turn in range(-2, given.turns):
        for choice, network in networks.items():
            with torch.inference_mode():
                network(features=inputs[choice])  # what ran before it leaves the caches as it likes
                started = time.perf_counter()
                network(features=inputs[choice])
            if turn >= 0:
                taken[choice].append((time.perf_counter() - started) / CLIPS * 1000)
    results, rows = {}, []
    for choice, network in networks.items():
        with FlopCounterMode(display=False) as counter:
            network(features=inputs[choice][:1])
        count = sum(one.numel() for name, one in network.named_parameters() if not name.startswith("encoder."))
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(taken[choice], taken[given.choices[0]], strict=True)
        )
        results[choice] = {
            "parameters": count,
            "flops": counter.get_total_flops(),
            "milliseconds a clip": statistics.median(taken[choice]),
            f"time over {given.choices[0]}": ratio,
        }
        rows.append(
            (
                choice,
                count,
                f"{counter.get_total_flops() / 1e6:.1f} M",
                f"{results[choice]['milliseconds a clip']:.2f}",
                f"{ratio:.2f}",
            )
        )
    print_table(("choice", "parameters", "FLOPs a clip", "ms a clip", f"over {given.choices[0]}"), rows)
    save(given, "space_time_pooling_times", about, results)


def main() -> None:
    from workflows.tasks import register_tasks

    given = options()
    register_tasks()
    about = environment()
    if given.quick:
        given.choices, given.folds, given.turns = ["mean", "attention"], [0], 2
        given.change += ["train.epochs=1", "clip.frames=2", "input.size=[32, 48]", "model.grid=[1, 1]"]
    (times if given.part == "time" else accuracies)(given, about)


if __name__ == "__main__":
    main()
