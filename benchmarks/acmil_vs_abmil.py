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
import torch
from measure import environment, parser, print_table, save
from sklearn.model_selection import StratifiedKFold
from torch.nn.functional import cross_entropy

from domains.medical.bags.arrays import Arrays, open_arrays
from domains.medical.bags.building import build_network
from domains.medical.bags.model_settings import Abmil, Acmil
from domains.medical.bags.scores import area_under_roc, likelihood
from pipelines.fixtures import data_root

SETS = ("musk1", "elephant", "ucsb_breast_cancer", "protein")
WIDTH, ATTENTION, BATCH = 128, 64, 8
RATES = (5e-4, 2e-4)
TRIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "abmil": [{"dropout": dropout} for dropout in (0.25, 0.5)],
    "acmil": [{"mask_share": share, "dropout": 0.25} for share in (0.0, 0.6)],
}
"""What is tried of each method, with each learning rate: four configurations each."""


class Bags:
    """One set: bags `(N, F)`, labels, and batches of it.

    Args:
        arrays: The set.
        most: Instances of a bag that are seen at most.
    """

    def __init__(self, arrays: Arrays, most: int = 200) -> None:
        self.bags = [torch.from_numpy(arrays.features[rows[:most]]) for rows in arrays.members.values()]
        self.labels = torch.tensor([arrays.labels[name] for name in arrays.members])

    def scale(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the features of some bags."""
        every = torch.cat([self.bags[row] for row in rows])
        return every.mean(0), every.std(0).clamp(min=1e-6)

    def batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Padded bags, mask and labels."""
        bags = [self.bags[row] for row in rows]
        counts = torch.tensor([len(bag) for bag in bags])
        padded = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True)
        return padded, torch.arange(int(counts.max())) < counts[:, None], self.labels[list(rows)]


def train(
    bags: Bags, rows: Sequence[int], method: str, settings: Mapping[str, Any], rate: float, *, epochs: int, seed: int
) -> torch.nn.Module:
    """A network of some bags, after a fixed number of epochs."""
    made = {"abmil": Abmil, "acmil": Acmil}[method]
    model = made(hidden=(WIDTH,), attention_hidden=ATTENTION, **settings)
    torch.manual_seed(seed)
    network = build_network(model, features=bags.bags[0].shape[1], classes=2)
    mean, deviation = bags.scale(rows)
    network.mean.copy_(mean)
    network.deviation.copy_(deviation)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=5e-3, fused=True)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(rows)).split(BATCH):
            values, mask, labels = bags.batch([rows[index] for index in chosen])
            loss = network.network.losses(network(values, mask), labels, cross_entropy)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def positive(network: torch.nn.Module, bags: Bags, rows: Sequence[int]) -> np.ndarray:
    """Probability of the positive class."""
    values, mask, _ = bags.batch(rows)
    return network(values, mask).logits.softmax(-1)[:, 1].double().numpy()


def out_of_fold(bags: Bags, method: str, *, folds: int, epochs: int, repeat: int) -> np.ndarray:
    """Probability of every bag by the network that has not seen it."""
    labels = bags.labels.numpy()
    found = np.zeros(len(labels))
    for number, (training, test) in enumerate(
        StratifiedKFold(folds, shuffle=True, random_state=repeat).split(labels, labels)
    ):
        seed = 1000 * repeat + number
        inner, held = next(StratifiedKFold(5, shuffle=True, random_state=seed).split(training, labels[training]))
        best: tuple[float, Mapping[str, Any], float] = (-1.0, {}, 0.0)
        for settings in TRIES[method]:
            for rate in RATES:
                network = train(bags, training[inner].tolist(), method, settings, rate, epochs=epochs, seed=seed)
                said = positive(network, bags, training[held].tolist())
                truth = labels[training[held]] == 1
                score = likelihood(truth, np.where(truth, said, 1 - said))
                best = max(best, (score, settings, rate), key=lambda one: one[0])
        network = train(bags, training.tolist(), method, best[1], best[2], epochs=epochs, seed=seed)
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
    return {"bags": len(truth), **whole, "paired": paired}


def material(given: Any) -> dict[str, Bags]:
    """The four sets, or a made-up one."""
    if given.quick:
        generator = np.random.default_rng(0)
        counts = generator.integers(3, 9, 24)
        rows = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
        members = {str(number): one for number, one in enumerate(rows)}
        values = generator.normal(size=(counts.sum(), 6)).astype(np.float32)
        return {"made up": Bags(Arrays(values, members, {name: int(name) % 2 for name in members}))}
    root = data_root()
    if root is None:
        raise SystemExit("needs real data: set PULVINAR_DATA to a folder that holds mil_benchmark_bags")
    return {name: Bags(open_arrays(Path(root) / "mil_benchmark_bags" / f"{name}.npz")) for name in given.sets}


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
        found = compare(bags, folds=given.folds, repeats=given.turns, epochs=2 if given.quick else given.epochs)
        results[name] = found | {"seconds": time.monotonic() - started}
        for metric in ("auc", "accuracy"):
            apart = found["paired"][metric]
            told = f"{apart['difference']:+.3f} ({apart['low']:+.3f} to {apart['high']:+.3f})"
            rows.append((name, metric, f"{found['abmil'][metric]:.3f}", f"{found['acmil'][metric]:.3f}", told))
        print(name, found, f"{results[name]['seconds']:.0f} s", flush=True)
    print_table(("set", "metric", "abmil", "acmil", "acmil - abmil (95 % interval over bags)"), rows)
    save(given, "acmil_vs_abmil", about, results)


if __name__ == "__main__":
    main()
