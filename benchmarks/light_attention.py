"""Light attention and other blocks in the CNN of re-identification: what each is worth, beside what it costs.

The CNN without a block and with one learn from the same training part with the same batches, steps and seed, by the
settings of the workflows `reid/vehicles` and `reid/persons`, and are judged on the same unseen identities. The
difference of average precision is taken for each query and averaged over seeds; its interval comes from resamples of
identities. What each costs at inference is measured by `reid_inference.py`, on the same networks.

    python benchmarks/light_attention.py                   three seeds; what is there already is kept
    python benchmarks/light_attention.py --most 1          one training more, so that others get a turn in between
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import environment, save
from reid_trials import Wanted, compared, made_up, options, run_trials

NETWORKS: dict[str, tuple[str, ...]] = {
    "no attention": (),
    "light, stage 6": ("model.attention.name=light", "model.attention_stages=[6]"),
    "light, stages 5 and 6": ("model.attention.name=light", "model.attention_stages=[5,6]"),
    "eca, stage 6": ("model.attention.name=eca", "model.attention_stages=[6]"),
    "ela, stage 6": ("model.attention.name=ela", "model.attention_stages=[6]"),
    "full, stage 6": ("model.attention.name=full", "model.attention_stages=[6]"),
}
SETS = ("vehicles", "persons")


def main() -> None:
    from workflows.tasks import register_tasks

    given = options(__doc__ or "", SETS, list(NETWORKS), "light_attention").parse_args()
    register_tasks()
    about = environment()
    with tempfile.TemporaryDirectory(prefix="pulvinar-pictures-") as folder:
        changes = tuple(given.change)
        if given.quick:
            given.sets, given.seeds, given.rows = ["vehicles"], 1, Path(folder) / "rows.jsonl"
            changes += tuple(made_up(Path(folder)))
        wanted: list[Wanted] = [
            (f"reid/{name}", network, seed, (*NETWORKS[network], *changes))
            for name in given.sets
            for seed in range(given.seeds)
            for network in given.networks
        ]
        done = run_trials(wanted, given.rows, given.most)
    if done is None:
        return
    results = {
        name: compared(name, [trial for key, trial in done.items() if key[0] == f"reid/{name}"], "no attention")
        for name in given.sets
    }
    save(given, "light_attention", about, results)


if __name__ == "__main__":
    main()
