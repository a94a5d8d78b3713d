"""What the training loop costs beside a bare PyTorch loop that does the same work.

Both loops prepare the same samples, run the same network in the same precision, clip, step AdamW and read the loss.
They take turns, each turn gives a ratio, and the median ratio counts; processor time is compared, which other work on
the machine sways least.

    OMP_NUM_THREADS=1 python benchmarks/training_overhead.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from pipelines.cases import Case
from pipelines.runs import RunFolder
from pipelines.task import SampleKey, Task
from pipelines.training import choose_precision, train
from pipelines.training.settings import TrainingSettings

SIDE, CHANNELS, BATCH = 64, 24, 4


class Data:
    """Noise images with a label."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        generator = np.random.default_rng((key.epoch, key.index))
        image = torch.from_numpy(generator.standard_normal((1, SIDE, SIDE), np.float32))
        return {"image": image, "label": (image[0] > 0).long()}

    def collate(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


class Work(Task):
    """The smallest task that can be trained without validation."""

    selection_metric = "none"
    steps: list[float]

    def __init__(self, count: int) -> None:
        self.count = count
        self.steps = []

    def training_data(self, cases: Sequence[Case], *, seed: int) -> Data:
        return Data(self.count)

    def build_network(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 3, padding=1)]
        for _ in range(6):
            layers += [nn.GroupNorm(4, CHANNELS), nn.GELU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)]
        return nn.Sequential(*layers, nn.Conv2d(CHANNELS, 2, 1))

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.steps.append(time.process_time())
        return {"loss": nn.functional.cross_entropy(network(batch["image"]).float(), batch["label"])}

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("this task is only trained")

    read_cases = check_case = fit = predictor = item = judge = draw = describe = _unused
    from_description = with_workflow = example_batch = _unused


def bare_loop(work: Work, steps: int, precision: str) -> None:
    """What one would write by hand."""
    torch.manual_seed(0)
    network = work.build_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    data = work.training_data((), seed=0)
    for step in range(steps):
        batch = data.collate([data[SampleKey(0, BATCH * step + index)] for index in range(BATCH)])
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = work.loss_step(network, batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        loss.item()


def our_loop(work: Work, steps: int, precision: str) -> None:
    """The same by `train`."""
    settings = TrainingSettings.model_validate(
        {"epochs": 1, "batch_size": BATCH, "device": "cpu", "precision": precision, "schedule": {"name": "constant"}}
    )
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case("noise", "noise", {})]
        train(work, cases, [], RunFolder(Path(folder)), settings=settings, seed=0, console=Console(quiet=True))


def seconds_per_step(loop: Any, steps: int, precision: str) -> float:
    """Median processor time from one forward pass to the next: start and end of a training do not count."""
    work = Work(steps * BATCH)
    loop(work, steps, precision)
    return float(np.median(np.diff(work.steps[5:])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    precision = choose_precision("auto", "cpu")
    bare, ours = [], []
    for _ in range(options.turns):
        bare.append(seconds_per_step(bare_loop, options.steps, precision))
        ours.append(seconds_per_step(our_loop, options.steps, precision))
    print(f"{precision}, {torch.get_num_threads()} thread(s), batches of {BATCH} x {SIDE}x{SIDE}")
    print(f"bare loop {1e3 * np.median(bare):.2f} ms/step, train {1e3 * np.median(ours):.2f} ms/step")
    percent = 100 * (np.array(ours) / np.array(bare) - 1)
    low, middle, high = np.quantile(percent, [0.25, 0.5, 0.75])
    print(f"overhead {middle:+.1f} % (middle half of {len(percent)} turns: {low:+.1f} to {high:+.1f} %)")


if __name__ == "__main__":
    main()
