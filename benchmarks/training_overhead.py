"""What the training loop costs beside a bare PyTorch loop that does the same work.

Both loops prepare the same samples, run the same network in the same precision, clip, step AdamW and read the loss.
They take turns, each turn gives a ratio, and the median ratio counts; processor time is compared, which other work on
the machine sways least.

    OMP_NUM_THREADS=1 python benchmarks/training_overhead.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, parser, save, spread, told
from rich.console import Console
from torch import Tensor, nn

from pipelines.cases import Case
from pipelines.runs import RunFolder
from pipelines.task import SampleKey, Task
from pipelines.training import choose_precision, train
from pipelines.training.settings import TrainingSettings

SIDE, CHANNELS, BATCH = 64, 24, 4
WARM_UP = 5


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
    return float(np.median(np.diff(work.steps[WARM_UP:])))


def main() -> None:
    options = parser(__doc__, turns=9)
    options.add_argument("--steps", type=int, default=60, help=f"optimizer steps a turn, {WARM_UP} of them to warm up")
    given = options.parse_args()
    if given.steps < WARM_UP + 3:
        options.error(f"--steps {given.steps}: at least {WARM_UP + 3}")
    about = environment()
    steps, turns = (WARM_UP + 3, 1) if given.quick else (given.steps, given.turns)
    precision = choose_precision("auto", "cpu")
    loops = {"bare loop": bare_loop, "train": our_loop}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns):
        for name in sorted(loops, reverse=turn % 2 == 1):
            seconds[name].append(seconds_per_step(loops[name], steps, precision))
    percent = (100 * (np.divide(seconds["train"], seconds["bare loop"]) - 1)).tolist()
    print(
        f"{precision}, {about['threads']} thread(s), batches of {BATCH} x {SIDE}x{SIDE}, {turns} turns of {steps} steps"
    )
    for name, values in seconds.items():
        print(f"{name}: {told([1e3 * value for value in values], ' ms')} of processor time a step")
    print(f"overhead: {told(percent, ' %', 1)}")
    save(given, "training_overhead", about, {"seconds a step": seconds, "overhead in percent": spread(percent)})


if __name__ == "__main__":
    main()
