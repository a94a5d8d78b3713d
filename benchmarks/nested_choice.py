"""Networks for the breast cores (UCSB), one array left out at a time: each by itself, and one chosen inside each fold.

The network of the workflow was once chosen by leaving one array out of six, and six of the seven outer folds hold out
one of these arrays: its figure may be a little too good. Here the choice is nested. Each array is left out once; among
the other six, each is left out once more, the network with the best likelihood over these inner cores is trained on all
six, and judges the array that nobody has seen. Beside it stands every network by itself, with no choice at all: the
first of them is what the product takes where nothing is set.

Features, epochs, batches, learning rate and weight decay are those of the workflow. Two arrays are left out together
once for each pair, since the inner training of one outer fold is that of another.

    python benchmarks/nested_choice.py            # needs PULVINAR_DATA; 168 trainings
    python benchmarks/nested_choice.py --quick    # made-up bags, to see that it runs
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from bag_training import Bags, positive, train
from measure import environment, parser, print_table, save
from numpy.typing import NDArray

from domains.medical.bags.model_settings import Abmil, Acmil, Max, Mean, ModelSettings
from domains.medical.bags.scores import area_under_roc, likelihood
from pipelines.fixtures import data_root

WORKFLOW = Path(__file__).resolve().parents[1] / "workflows/medical/ucsb-cores.yaml"
CANDIDATES: Mapping[str, ModelSettings] = {
    "abmil (default)": Abmil(),
    "abmil, narrow": Abmil(hidden=(128,), attention_hidden=64, dropout=0.5),
    "acmil": Acmil(),
    "max": Max(),
    "mean": Mean(),
    "mean, linear": Mean(hidden=(), dropout=0),
}
CHOSEN = "chosen inside each fold"


def leave_out(
    bags: Bags, arrays: NDArray[np.str_], model: ModelSettings, *, epochs: int
) -> dict[tuple[str, ...], NDArray[np.float64]]:
    """Probability of every core by a network that has not seen the arrays named; NaN for cores that it has seen."""
    names = sorted(set(arrays.tolist()))
    out = [*((name,) for name in names), *combinations(names, 2)]
    found = {}
    for seed, gone in enumerate(out):
        held = np.flatnonzero(np.isin(arrays, gone)).tolist()
        rows = np.flatnonzero(~np.isin(arrays, gone)).tolist()
        network = train(bags, rows, model, rate=1e-3, weight_decay=1e-2, epochs=epochs, seed=seed)
        found[gone] = np.full(len(arrays), np.nan)
        found[gone][held] = positive(network, bags, held)
    return found


def choose(
    said: Mapping[str, Mapping[tuple[str, ...], NDArray[np.float64]]],
    arrays: NDArray[np.str_],
    truth: NDArray[np.bool_],
) -> dict[str, str]:
    """Array → the network with the best likelihood over the others, each core judged without its own array."""
    chosen = {}
    for outer in sorted(set(arrays.tolist())):
        score = {}
        for name, found in said.items():
            inner = np.full(len(truth), np.nan)
            for pair in (gone for gone in found if len(gone) == 2 and outer in gone):
                own = np.isin(arrays, [one for one in pair if one != outer])
                inner[own] = found[pair][own]
            others = arrays != outer
            score[name] = likelihood(truth[others], np.where(truth, inner, 1 - inner)[others])
        chosen[outer] = max(score, key=lambda name: score[name])
    return chosen


def judge(truth: NDArray[np.bool_], score: NDArray[np.float64], *, resamples: int = 2000) -> dict[str, Any]:
    """AUC and accuracy over all cores, with a 95 % interval of the AUC over cores."""
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(truth), len(truth)) for _ in range(resamples)]
    low, high = np.nanquantile([area_under_roc(truth[rows], score[rows]) for rows in drawn], (0.025, 0.975))
    accuracy = float(((score > 0.5) == truth).mean())
    return {"auc": area_under_roc(truth, score), "low": float(low), "high": float(high), "accuracy": accuracy}


def material(given: argparse.Namespace) -> tuple[Bags, NDArray[np.str_]]:
    """The cores as bags, and the array of each; made-up ones with `--quick`."""
    if given.quick:
        generator = np.random.default_rng(0)
        values = [generator.normal(size=(4, 6)).astype(np.float32) + number % 2 for number in range(12)]
        return Bags(values, [number % 2 for number in range(12)]), np.repeat(["a", "b", "c"], 4)
    if data_root() is None:
        raise SystemExit("needs real data: set PULVINAR_DATA to a folder that holds ucsb_breast_he")
    from domains.medical.bags.task import BagTask
    from pipelines.config import load_workflow
    from pipelines.task import SampleKey
    from workflows.tasks import register_tasks

    register_tasks()
    task = BagTask(load_workflow(WORKFLOW).config)
    cases = task.read_cases().cases
    data = task.training_data(cases, seed=0)
    samples = [data[SampleKey(0, number)] for number in range(len(cases))]
    bags = Bags([one["bag"].numpy() for one in samples], [int(one["target"][1]) for one in samples])
    return bags, np.array([case.group for case in cases])


def tell(results: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of the networks."""
    rows: Sequence[Sequence[str]] = [
        (name, f"{one['auc']:.3f} ({one['low']:.3f} to {one['high']:.3f})", f"{one['accuracy']:.3f}")
        for name, one in results.items()
    ]
    print_table(("network", "AUC (95 % interval over cores)", "accuracy"), rows)


def main() -> None:
    """Trains, chooses and tells."""
    made = parser(__doc__ or "", turns=1)
    made.add_argument("--epochs", type=int, default=40, help="epochs of every training")
    given = made.parse_args()
    about = environment()
    bags, arrays = material(given)
    truth = bags.labels.numpy() == 1
    said = {}
    for name, model in CANDIDATES.items():
        said[name] = leave_out(bags, arrays, model, epochs=2 if given.quick else given.epochs)
        print(f"{name}: trained {len(said[name])} times", flush=True)
    outer = {
        name: np.nansum([values for gone, values in found.items() if len(gone) == 1], axis=0)
        for name, found in said.items()
    }
    chosen = choose(said, arrays, truth)
    outer[CHOSEN] = np.array([outer[chosen[array]][row] for row, array in enumerate(arrays.tolist())])
    results = {name: judge(truth, score) for name, score in outer.items()}
    tell(results)
    for array, name in chosen.items():
        print(f"without {array}: {name}")
    save(given, "nested_choice", about, {"networks": results, "chosen": chosen})


if __name__ == "__main__":
    main()
