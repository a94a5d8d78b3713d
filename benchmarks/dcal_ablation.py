"""Dual cross-attention (DCAL) against the same transformer without it, with the same budget: what each branch is worth.

Networks learn from one training part with the same batches, steps and seed, and are judged on the same test part: the
plain transformer, with the local branch (GLCA), the pair branch (PWCA), both; and with the local branch whose feature
is the mean of the patches that the roll-out chose, in place of its class token. Each seed draws parts, weights and
batches of its own. The difference to the plain network is taken for each query (average precision) or picture (found or not),
averaged over a part and over seeds; its interval comes from resamples of identities (pictures for flowers).

No weights of a transformer are at hand, so all start from nothing, small, on small pictures, and for about 420 steps.

    python benchmarks/dcal_ablation.py                     three sets, three seeds; what is there already is kept
    python benchmarks/dcal_ablation.py --most 1            one training more, so that others get a turn in between
    python benchmarks/dcal_ablation.py --sets persons --change model.dim=96 --rows other.jsonl
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from measure import RESULTS, environment, parser, print_table, save
from reid_trials import Trial, difference, made_up, missing, read_trials, train_once, write_trial

NETWORKS: dict[str, tuple[str, ...]] = {
    "plain": ("model.dcal=null",),
    "GLCA": ("model.dcal.pairs=false",),
    "PWCA": ("model.dcal.local=false",),
    "both": (),
    "GLCA, chosen patches": ("model.dcal.pairs=false", "model.dcal.summary=patches"),
}
SETS: dict[str, tuple[str, ...]] = {
    "vehicles": ("input.size=[48,48]", "augment.pad=3", "train.epochs=15"),
    "persons": ("input.size=[64,32]", "augment.pad=3", "train.epochs=18"),
    "flowers": ("input.size=[48,48]", "model.patch=8", "train.epochs=34"),
}
"""Set → its own settings; about as many steps for each."""
SHARED = ("model.dim=64", "model.heads=2", "train.lr=1e-3", "train.validate_every=1000")
Wanted = tuple[str, str, int, tuple[str, ...]]


def options() -> argparse.Namespace:
    made = parser(__doc__ or "", turns=1)
    made.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    made.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    made.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    made.add_argument("--change", nargs="*", default=[], help="more settings of every network, as for `pulvinar run`")
    made.add_argument("--rows", type=Path, default=RESULTS / "dcal_ablation.jsonl", help="file of finished trainings")
    made.add_argument("--most", type=int, help="end after so many trainings; all by default")
    return made.parse_args()


def main() -> None:
    from workflows.tasks import register_tasks

    given = options()
    register_tasks()
    about = environment()
    with tempfile.TemporaryDirectory(prefix="pulvinar-pictures-") as folder:
        changes = (*SHARED, *given.change)
        if given.quick:
            given.sets, given.seeds, given.rows = ["vehicles"], 1, Path(folder) / "rows.jsonl"
            changes += ("model.depth=2", *made_up(Path(folder)))
        wanted: list[Wanted] = [
            (f"reid/{name}-dcal", network, seed, (*NETWORKS[network], *SETS[name], *changes))
            for network_group in (given.networks[:4], given.networks[4:])
            for seed in range(given.seeds)
            for name in given.sets
            for network in network_group
        ]
        lacking = missing(read_trials(given.rows), wanted)
        for place in lacking[: given.most]:
            trial = train_once(*wanted[place])
            write_trial(given.rows, trial)
            told = f"{trial.workflow}, seed {trial.seed}, {trial.network}: {trial.mean:.4f}"
            print(f"{told} in {trial.took['train seconds']:.0f} s", flush=True)
        if left := len(missing(read_trials(given.rows), wanted)):
            print(f"{left} of {len(wanted)} trainings are left; the same command goes on")
            return
        results = {name: compared(name, wanted, read_trials(given.rows)) for name in given.sets}
    save(given, "dcal_ablation", about, results)


def compared(name: str, wanted: list[Wanted], done: list[Trial]) -> dict[str, Any]:
    """Means of one set, and paired differences to the plain network."""
    by_key = {(trial.workflow, trial.network, trial.seed, trial.changes): trial for trial in done}
    found: dict[str, list[Trial]] = defaultdict(list)
    for key in wanted:
        if key[0] == f"reid/{name}-dcal":
            found[key[1]].append(by_key[key])
    rows, told = [], {}
    for network, trials in found.items():
        mean = sum(trial.mean for trial in trials) / len(trials)
        told[network] = {"mean": mean, "seeds": [trial.mean for trial in trials], "took": [t.took for t in trials]}
        apart = ""
        if network != "plain" and "plain" in found:
            paired = difference([trial.values for trial in found["plain"]], [trial.values for trial in trials])
            told[network]["difference to plain"] = paired
            apart = f"{paired['mean']:+.4f} ({paired['low']:+.4f} to {paired['high']:+.4f})"
        seconds = sum(trial.took["train seconds"] for trial in trials) / len(trials)
        rows.append((name, network, f"{mean:.4f}", apart, trials[0].took["parameters"], f"{seconds:.0f} s"))
    print_table(("set", "network", "mean", "difference to plain (95 %)", "parameters", "training"), rows)
    return told


if __name__ == "__main__":
    main()
