"""Dual cross-attention (DCAL) against the same transformer without it, with the same budget: what each branch is worth.

Networks learn from one training part with the same batches, steps and seed, and are judged on the same test part: the
plain transformer, with the local branch (GLCA), the pair branch (PWCA), both; and with the local branch whose feature
is the mean of the patches that the roll-out chose, in place of its class token. Each seed draws parts, weights and
batches of its own. The difference to the plain network is taken for each query (average precision) or picture (found
or not), averaged over a part and over seeds; its interval comes from resamples of identities (pictures for flowers).

No weights of a transformer are at hand, so all start from nothing, small, on small pictures, and for about 420 steps.

    python benchmarks/dcal_ablation.py                     three sets, three seeds; what is there already is kept
    python benchmarks/dcal_ablation.py --most 1            one training more, so that others get a turn in between
    python benchmarks/dcal_ablation.py --sets persons --change model.dim=96 --rows other.jsonl
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import environment, save
from reid_trials import Wanted, compared, made_up, options, run_trials

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


def main() -> None:
    from workflows.tasks import register_tasks

    given = options(__doc__ or "", list(SETS), list(NETWORKS), "dcal_ablation").parse_args()
    register_tasks()
    about = environment()
    with tempfile.TemporaryDirectory(prefix="pulvinar-pictures-") as folder:
        changes = (*SHARED, *given.change)
        if given.quick:
            given.sets, given.seeds, given.rows = ["vehicles"], 1, Path(folder) / "rows.jsonl"
            changes += ("model.depth=2", *made_up(Path(folder)))
        # Seed by seed, and the four networks of the paper before the fifth: what is there early is a comparison.
        wanted: list[Wanted] = [
            (f"reid/{name}-dcal", network, seed, (*NETWORKS[network], *SETS[name], *changes))
            for networks in (given.networks[:4], given.networks[4:])
            for seed in range(given.seeds)
            for name in given.sets
            for network in networks
        ]
        done = run_trials(wanted, given.rows, given.most)
    if done is None:
        return
    results = {
        name: compared(name, [trial for key, trial in done.items() if key[0] == f"reid/{name}-dcal"], "plain")
        for name in given.sets
    }
    save(given, "dcal_ablation", about, results)


if __name__ == "__main__":
    main()
