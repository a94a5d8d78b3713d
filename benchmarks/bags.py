"""Bag networks on large bags: time and memory of each, and an epoch of gated attention beside torchmil.

`aggregators`: one bag of 100,000 instances of 1,024 features through every network, each in a process of its own:
forward in evaluation, with the attention of every instance; then forward and backward of a training step on all
of them. Memory is the largest resident set of the process, the bag and the libraries included.

`epoch`: the same bags, batch size, widths, optimizer and threads; ours with the engine and the loader of
`pulvinar run`, theirs with the loader and the trainer of torchmil (its metric left as it is by default). The two take
turns. Needs torchmil: python -m pip install torchmil.

Seconds are of processor time, which others on the machine do not change.

    python benchmarks/bags.py aggregators
    python benchmarks/bags.py epoch
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, parser, print_table, save, spread, told

NETWORKS: dict[str, dict[str, Any]] = {
    "mean": {"hidden": [512]},
    "max": {"hidden": [512]},
    "abmil": {"hidden": [512]},
    "acmil": {"hidden": [512]},
    "acmil_heads": {"hidden": [512]},
    "query": {"hidden": [512]},
    "clam": {"hidden": 512, "attention_hidden": 256},
    "clam by class": {"name": "clam", "hidden": 512, "attention_hidden": 256, "by_class": True},
    "dsmil": {},
    "dsmil values": {"name": "dsmil", "values": True},
    "transmil": {"hidden": 512},
    "dtfd": {"hidden": 512},
    **{
        f"mixer {name}": {"name": "mixer", "mixer": {"name": name}, "hidden": 256}
        for name in ("linear", "performer", "abc", "xca")
    },
}
"""Published widths for features of 1,024; of the mixers those whose cost grows as the bag does."""


def one_network(name: str, instances: int, features: int, *, training: bool) -> dict[str, float]:
    """Seconds and largest resident set in GiB of one pass, in this process."""
    import torch
    from pydantic import TypeAdapter
    from torch.nn.functional import cross_entropy

    from domains.medical.bags.building import build_network
    from domains.medical.bags.model_settings import ModelSettings

    torch.manual_seed(0)
    settings = TypeAdapter(ModelSettings).validate_python({"name": name, **NETWORKS[name]})
    network = build_network(settings, features=features, classes=2).train(training)
    bag = torch.randn(1, instances, features)
    started = time.process_time()
    if training:
        output = network(bag)
        network.network.losses(output, torch.tensor([1]), cross_entropy)["loss"].backward()
    else:
        with torch.inference_mode():
            output = network(bag)
    seconds = time.process_time() - started
    if not bool(output.logits.isfinite().all()):
        raise SystemExit(f"{name} gives {output.logits}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gibibytes": peak}


def aggregators(given: argparse.Namespace) -> dict[str, Any]:
    """Every network in processes of their own."""
    instances, features = (2_000, 64) if given.quick else (given.instances, 1024)
    found: dict[str, Any] = {}
    rows = []
    for name in given.networks:
        found[name] = {}
        for how in ("forward", "training"):
            command = [sys.executable, __file__, "one", "--name", name, "--how", how]
            command += ["--instances", str(instances), "--features", str(features)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} {how}: {done.stderr[-400:]}")
            found[name][how] = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            (name, *(f"{found[name][how][key]:.2f}" for how in found[name] for key in ("seconds", "gibibytes")))
        )
        print(name, found[name], flush=True)
    print_table(("network", "forward s", "GiB", "training step s", "GiB"), rows)
    worst = max(one["gibibytes"] for both in found.values() for one in both.values())
    print(f"a bag of {instances:,} × {features:,}; the largest process took {worst:.2f} GiB")
    return {"instances": instances, "features": features, "networks": found, "largest": worst}


def epoch(given: argparse.Namespace) -> dict[str, Any]:
    """Epochs of ours and of torchmil, in turns."""
    import torch

    bags, least, most, features = (8, 20, 60, 32) if given.quick else (64, 500, 3000, 1024)
    generator = np.random.default_rng(0)
    material = [
        (generator.normal(size=(int(generator.integers(least, most)), features)).astype(np.float32), number % 2)
        for number in range(bags)
    ]
    times: dict[str, list[float]] = {"ours": [], "torchmil": []}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = _our_epoch(material, Path(folder)), _their_epoch(material)
        for turn in range(given.turns + 1):  # the first of each warms up
            for name, run in (("ours", ours), ("torchmil", theirs))[:: 1 if turn % 2 else -1]:
                torch.manual_seed(turn)
                started = time.process_time()
                run(turn)
                if turn:
                    times[name].append(time.process_time() - started)
    for name, values in times.items():
        print(f"{name}: {told(values, ' s', 3)} an epoch of {bags} bags, {least} to {most} × {features}")
    pairs = [theirs / ours for ours, theirs in zip(times["ours"], times["torchmil"], strict=True)]
    print(f"torchmil takes {statistics.median(pairs):.2f} times as long (median of {len(pairs)} turns)")
    return {"times": times, "spread": {name: spread(values) for name, values in times.items()}, "ratio": pairs}


def _our_epoch(material: list[tuple[Any, int]], folder: Path) -> Any:
    from domains.medical.bags.settings import BagWorkflow
    from domains.medical.bags.task import BagTask
    from pipelines.training.engine import Engine
    from pipelines.training.sampling import SampleStream, make_loader

    owner = np.repeat(np.arange(len(material)), [len(one) for one, _ in material])
    np.savez(
        folder / "bags.npz",
        X=np.concatenate([one for one, _ in material]),
        bag_id=owner,
        bag_ids=np.arange(len(material)),
        bag_label=[label for _, label in material],
    )
    config = BagWorkflow.model_validate(
        {
            "task": "medical/bags",
            "name": "benchmark",
            "data": {"format": "arrays", "file": str(folder / "bags.npz")},
            "features": {"standardise": False},
            "model": {"name": "abmil", "hidden": [512], "attention_hidden": 128, "dropout": 0.0},
            "train": {"batch_size": 1, "precision": "fp32", "device": "cpu", "clip_norm": None},
        }
    )
    task = BagTask(config)
    cases = task.read_cases().cases
    task.fit(cases)
    data = task.training_data(cases, seed=0)
    engine = Engine(task, config.train, seed=0, device="cpu", precision="fp32")
    stream = SampleStream.over(data, 1, 0)

    def run(turn: int) -> None:
        loader = make_loader(data, stream, start=turn * len(data), stop=(turn + 1) * len(data))
        for number, fetched in enumerate(loader):
            outcome = engine.step([fetched.batch], number=turn * len(data) + number, lr=1e-4)
        float(outcome.losses.sum())

    return run


def _their_epoch(material: list[tuple[Any, int]]) -> Any:
    import torch
    from torchmil.data import collate_fn
    from torchmil.models import ABMIL
    from torchmil.utils import Trainer

    bags = [{"X": torch.from_numpy(one), "Y": torch.tensor(float(label))} for one, label in material]
    embed = torch.nn.Sequential(torch.nn.Linear(material[0][0].shape[1], 512), torch.nn.ReLU())
    model = ABMIL(in_shape=(material[0][0].shape[1],), att_dim=128, gated=True, feat_ext=embed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    trainer = Trainer(model, optimizer, device="cpu", disable_pbar=True, verbose=False)
    loader = torch.utils.data.DataLoader(bags, batch_size=1, shuffle=True, collate_fn=collate_fn)

    def run(turn: int) -> None:
        trainer._shared_loop(loader, epoch=turn, mode="train")

    return run


def main() -> None:
    """Runs what is asked for."""
    made = parser(__doc__ or "", turns=7)
    made.add_argument("what", choices=("aggregators", "epoch", "one"))
    made.add_argument("--instances", type=int, default=100_000, help="instances of the large bag")
    made.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="which networks")
    made.add_argument("--features", type=int, default=1024, help=argparse.SUPPRESS)
    made.add_argument("--name", help=argparse.SUPPRESS)
    made.add_argument("--how", help=argparse.SUPPRESS)
    given = made.parse_args()
    if given.what == "one":
        print(json.dumps(one_network(given.name, given.instances, given.features, training=given.how == "training")))
        return
    about = environment()
    results = aggregators(given) if given.what == "aggregators" else epoch(given)
    save(given, f"bags_{given.what}", about, results)


if __name__ == "__main__":
    main()
