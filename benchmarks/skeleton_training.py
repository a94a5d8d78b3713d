"""Training on skeletons through Pulvinar beside a plain PyTorch loop of the same network, data and augmentation.

Both loops draw the same changed clips of JHMDB (made-up ones, where `PULVINAR_DATA` does not name it), run the
network of `video/jhmdb-skeleton`, clip gradients, step AdamW and read the loss. They take turns, each turn gives a
ratio, and the median counts; processor time from one forward pass to the next is compared.

    OMP_NUM_THREADS=1 python benchmarks/skeleton_training.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, parser, save, spread, told
from rich.console import Console
from torch import Tensor, nn

from domains.video.skeleton_action.settings import SkeletonWorkflow
from domains.video.skeleton_action.task import SkeletonActionTask
from domains.video.skeletons.joints import joint_set
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, save_skeletons
from pipelines.cases import Case
from pipelines.fixtures import data_root
from pipelines.runs import RunFolder
from pipelines.task import SampleKey
from pipelines.training import train
from pipelines.training.settings import TrainingSettings

BATCH, RATE, DECAY, CLIP = 32, 2e-3, 0.05, 1.0
WARM_UP = 3


class Timed(SkeletonActionTask):
    """The task, which notes when each forward pass begins."""

    steps: list[float]

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.steps.append(time.process_time())
        return super().loss_step(network, batch)


def make_task(folder: Path, quick: bool) -> tuple[Timed, Sequence[Case]]:
    """The task of the workflow, fitted to all clips."""
    root = None if quick else data_root()
    data: dict[str, Any] = {"file": str(folder / "made.npz")}
    if root is not None and (root / "jhmdb_skeleton").is_dir():
        file, classes = (root / "jhmdb_skeleton" / name for name in ("train.npz", "classes.txt"))
        data = {"file": str(file), "classes": str(classes), "joints": "jhmdb15"}
    else:
        save_skeletons(made_up(64 if quick else 400), folder / "made.npz")
    mixer = {"name": "full", "heads": 4}
    sections = {"clip": {"frames": 32}, "model": {"dim": 64, "depth": 3, "mixer": mixer}}
    task = Timed(SkeletonWorkflow.model_validate({"task": Timed.name, "name": "bench", "data": data, **sections}))
    cases = tuple(task.read_cases())
    task.fit(cases)
    return task, cases


def made_up(clips: int) -> SkeletonSet:
    """Joints that walk at random, as many and as long as JHMDB's."""
    rng, joints = np.random.default_rng(0), joint_set("jhmdb15")
    sequences = []
    for number in range(clips):
        pose = rng.normal(0, 1, (1, int(rng.integers(15, 41)), len(joints), 2)).cumsum(1).astype(np.float32)
        seen = np.ones(pose.shape[:3], np.float32)
        sequences.append(SkeletonSequence(f"clip-{number:03d}", pose, seen, f"action-{number % 14:02d}"))
    return SkeletonSet(joints, tuple(sequences))


def plain_loop(task: Timed, cases: Sequence[Case], steps: int) -> None:
    """What one would write by hand, with the clips of the task."""
    torch.manual_seed(0)
    data, network = task.training_data(cases, seed=0), task.build_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    for step in range(steps):
        epoch, first = divmod(step * BATCH, len(data) // BATCH * BATCH)
        batch = data.collate([data[SampleKey(epoch, first + at)] for at in range(BATCH)])
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss_step(network, batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        loss.item()


def our_loop(task: Timed, cases: Sequence[Case], steps: int) -> None:
    """The same by `train`."""
    settings = TrainingSettings.model_validate(
        {
            "epochs": -(-steps * BATCH // len(cases)),
            "batch_size": BATCH,
            "lr": RATE,
            "optimizer": {"name": "adamw", "weight_decay": DECAY},
            "schedule": {"name": "constant"},
            "device": "cpu",
            "precision": "fp32",
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        train(task, cases, [], RunFolder(Path(folder)), settings=settings, seed=0, console=Console(quiet=True))


def seconds_per_step(loop: Callable[[Timed, Sequence[Case], int], None], task: Timed, cases: Any, steps: int) -> float:
    """Median from one forward pass to the next: start, end and checkpoints of a training do not count."""
    task.steps = []
    loop(task, cases, steps)
    return float(np.median(np.diff(task.steps[WARM_UP:])))


def main() -> None:
    options = parser(__doc__ or "", turns=9)
    options.add_argument("--steps", type=int, default=42, help=f"optimizer steps a turn, {WARM_UP} of them to warm up")
    given = options.parse_args()
    if given.steps < WARM_UP + 3:
        options.error(f"--steps {given.steps}: at least {WARM_UP + 3}")
    about = environment()
    steps, turns = (WARM_UP + 3, 1) if given.quick else (given.steps, given.turns)
    loops = {"plain loop": plain_loop, "Pulvinar": our_loop}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    with tempfile.TemporaryDirectory() as folder:
        task, cases = make_task(Path(folder), given.quick)
        for turn in range(turns):
            for name in sorted(loops, reverse=turn % 2 == 1):
                seconds[name].append(seconds_per_step(loops[name], task, cases, steps))
    percent = (100 * (np.divide(seconds["Pulvinar"], seconds["plain loop"]) - 1)).tolist()
    parameters = sum(one.numel() for one in task.build_network().parameters())
    print(
        f"{len(cases)} clips, {parameters} parameters, {about['threads']} thread(s), batches of {BATCH}, {turns} turns"
    )
    for name, values in seconds.items():
        print(f"{name}: {told([1e3 * value for value in values], ' ms')} of processor time a step")
    print(f"overhead: {told(percent, ' %', 1)}")
    results = {"clips": len(cases), "parameters": parameters, "seconds a step": seconds}
    save(given, "skeleton_training", about, {**results, "overhead in percent": spread(percent)})


if __name__ == "__main__":
    main()
