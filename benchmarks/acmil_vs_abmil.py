"""ACMIL beside gated attention (ABMIL) on four bag sets, under one protocol with an equal tuning budget.

For each set, repeat and outer fold, each method tries the same number of configurations on an inner division of the
training part (stratified, one fifth held out), the one with the best inner likelihood is trained on the whole training
part, and the outer fold is judged once. Both see the same divisions, batches, epochs, widths, learning rates and weight
decays; ACMIL spends its tries on the share that it masks, ABMIL on dropout, both on the learning rate. What is told is
the mean of each repeat's out-of-fold AUC and accuracy, and the paired difference with a bootstrap interval over bags.

    python benchmarks/acmil_vs_abmil.py            # five folds, two repeats, four tries
    python benchmarks/acmil_vs_abmil.py --quick    # made-up bags, to see that it runs
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bag_training import Bags, positive, train
from measure import environment, parser, print_table, save
from sklearn.model_selection import StratifiedKFold

from domains.medical.bags.arrays import open_arrays
from domains.medical.bags.model_settings import Abmil, Acmil
from domains.medical.bags.scores import area_under_roc, likelihood
from pipelines.fixtures import data_root

SETS = ("musk1", "elephant", "ucsb_breast_cancer", "protein")
RATES = (5e-4, 2e-4)
_WIDTHS: Mapping[str, Any] = {"hidden": (128,), "attention_hidden": 64}
TRIES: Mapping[str, Sequence[Abmil | Acmil]] = {
    "abmil": [Abmil(dropout=dropout, **_WIDTHS) for dropout in (0.25, 0.5)],
    "acmil": [Acmil(mask_share=share, dropout=0.25, **_WIDTHS) for share in (0.0, 0.6)],
}
"""What is tried of each method, with each learning rate: four configurations each."""


def out_of_fold(bags: Bags, method: str, *, folds: int, epochs: int, repeat: int) -> np.ndarray:
    """Probability of every bag by the network that has not seen it."""
    labels = bags.labels.numpy()
    found = np.zeros(len(labels))
    how = {"epochs": epochs, "weight_decay": 5e-3}
    for number, (training, test) in enumerate(
        StratifiedKFold(folds, shuffle=True, random_state=repeat).split(labels, labels)
    ):
        seed = 1000 * repeat + number
        inner, held = next(StratifiedKFold(5, shuffle=True, random_state=seed).split(training, labels[training]))
        tries: list[tuple[float, Abmil | Acmil, float]] = []
        for model in TRIES[method]:
            for rate in RATES:
                network = train(bags, training[inner].tolist(), model, rate=rate, seed=seed, **how)
                said = positive(network, bags, training[held].tolist())
                truth = labels[training[held]] == 1
                tries.append((likelihood(truth, np.where(truth, said, 1 - said)), model, rate))
        _, model, rate = max(tries, key=lambda one: one[0])
        network = train(bags, training.tolist(), model, rate=rate, seed=seed, **how)
        found[test] = positive(network, bags, test.tolist())
    return found


def compare(bags: Bags, *, folds: int, repeats: int, epochs: int, resamples: int = 2000) -> dict[str, Any]:
    """Both methods on one set, and the paired difference ACMIL - ABMIL with its interval over bags."""
    truth = bags.labels.numpy() == 1
    said = {
        method: [out_of_fold(bags, method, folds=folds, epochs=epochs, repeat=repeat) for repeat in range(repeats)]
        for method in TRIES
    }

    def scores(rows: np.ndarray) -> dict[str, dict[str, float]]:
        return {
            method: {
                "auc": float(np.mean([area_under_roc(truth[rows], one[rows]) for one in several])),
                "accuracy": float(np.mean([((one[rows] > 0.5) == truth[rows]).mean() for one in several])),
            }
            for method, several in said.items()
        }

    whole = scores(np.arange(len(truth)))
    generator = np.random.default_rng(0)
    drawn = [scores(generator.integers(0, len(truth), len(truth))) for _ in range(resamples)]
    paired = {}
    for metric in ("auc", "accuracy"):
        apart = [one["acmil"][metric] - one["abmil"][metric] for one in drawn]
        low, high = np.nanquantile(apart, (0.025, 0.975))
        paired[metric] = {
            "difference": whole["acmil"][metric] - whole["abmil"][metric],
            "low": float(low),
            "high": float(high),
        }
    kept = {method: [one.tolist() for one in several] for method, several in said.items()}
    return {"bags": len(truth), **whole, "paired": paired, "truth": truth.tolist(), "out of fold": kept}


def material(given: Any) -> dict[str, Bags]:
    """The four sets, or a made-up one."""
    if given.quick:
        generator = np.random.default_rng(0)
        values = [generator.normal(size=(count, 6)).astype(np.float32) for count in generator.integers(3, 9, 24)]
        return {"made up": Bags(values, [number % 2 for number in range(24)])}
    root = data_root()
    if root is None:
        raise SystemExit("needs real data: set PULVINAR_DATA to a folder that holds mil_benchmark_bags")
    return {name: _open(Path(root) / "mil_benchmark_bags" / f"{name}.npz") for name in given.sets}


def _open(path: Path) -> Bags:
    arrays = open_arrays(path)
    return Bags([arrays.features[rows] for rows in arrays.members.values()], [*arrays.labels.values()])


def main() -> None:
    """Runs the comparison."""
    made = parser(__doc__ or "", turns=2)
    made.add_argument("--folds", type=int, default=5, help="outer folds")
    made.add_argument("--epochs", type=int, default=40, help="epochs of every training")
    made.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS, help="which sets")
    given = made.parse_args()
    about = environment()
    results: dict[str, Any] = {}
    rows = []
    for name, bags in material(given).items():
        started = time.monotonic()
        effort = {"epochs": 2, "resamples": 200} if given.quick else {"epochs": given.epochs}
        found = compare(bags, folds=given.folds, repeats=given.turns, **effort)
        results[name] = found | {"seconds": time.monotonic() - started}
        for metric in ("auc", "accuracy"):
            apart = found["paired"][metric]
            interval = f"{apart['difference']:+.3f} ({apart['low']:+.3f} to {apart['high']:+.3f})"
            rows.append((name, metric, f"{found['abmil'][metric]:.3f}", f"{found['acmil'][metric]:.3f}", interval))
        told = {key: found[key] for key in ("bags", *TRIES, "paired")}
        print(name, told, f"{results[name]['seconds']:.0f} s", flush=True)
    print_table(("set", "metric", "abmil", "acmil", "acmil - abmil (95 % interval over bags)"), rows)
    save(given, "acmil_vs_abmil", about, results)


if __name__ == "__main__":
    main()
