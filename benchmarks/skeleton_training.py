"""Training on skeletons through Pulvinar beside a plain PyTorch loop of the same network, data and augmentation.

Both loops draw the same changed clips of JHMDB (made-up ones, where `PULVINAR_DATA` does not name it), run the
network of `video/jhmdb-skeleton`, clip gradients, step AdamW and read the loss. They run in two threads that take
turns step by step: each turn is one step of either, from one forward pass to the next, so that both meet the same state
of the machine. Processor time of the thread counts; each pair of steps gives a ratio, the median of all pairs counts.

    OMP_NUM_THREADS=1 python benchmarks/skeleton_training.py
"""

from __future__ import annotations

import tempfile
import threading
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


class Turns:
    """Lets one of two threads go on at a time; each hands over when it begins a step."""

    def __init__(self) -> None:
        self._changed, self._turn, self._ended = threading.Condition(), 0, False

    def hand_over(self, own: int) -> None:
        """Waits until the other thread has made its step, or has ended."""
        with self._changed:
            self._turn = 1 - own
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._turn == own or self._ended)

    def end(self) -> None:
        """The thread that calls makes no more steps."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Timed(SkeletonActionTask):
    """The task, which hands over at each forward pass and notes what its thread computed from one to the next."""

    steps: list[float]
    turns: Turns
    own = 0
    started = 0.0

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.steps.append(time.thread_time() - self.started)
        self.turns.hand_over(self.own)
        self.started = time.thread_time()
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


def side_by_side(folder: Path, quick: bool, steps: int) -> tuple[dict[str, list[float]], Timed, Sequence[Case]]:
    """Seconds of each step of both loops, step by step; starts do not count."""
    turns, made = Turns(), {}
    for own, name in enumerate(LOOPS):
        task, cases = make_task(folder, quick)
        task.steps, task.turns, task.own = [], turns, own
        made[name] = task

    def alone(name: str) -> None:
        try:
            LOOPS[name](made[name], cases, steps)
        finally:
            turns.end()

    # Training listens to signals, which only the main thread may.
    ours, plain = "Pulvinar", "plain loop"
    other = threading.Thread(target=alone, args=(plain,), daemon=True)
    other.start()
    alone(ours)
    other.join()
    seconds = {name: made[name].steps[WARM_UP:] for name in LOOPS}
    count = min(map(len, seconds.values()))
    return {name: values[:count] for name, values in seconds.items()}, task, cases


LOOPS: dict[str, Callable[[Timed, Sequence[Case], int], None]] = {"Pulvinar": our_loop, "plain loop": plain_loop}


def main() -> None:
    options = parser(__doc__ or "", turns=150)
    given = options.parse_args()
    about = environment()
    with tempfile.TemporaryDirectory() as folder:
        turns = 4 if given.quick else given.turns
        seconds, task, cases = side_by_side(Path(folder), given.quick, turns + WARM_UP)
    percent = (100 * (np.divide(seconds["Pulvinar"], seconds["plain loop"]) - 1)).tolist()
    parameters = sum(one.numel() for one in task.build_network().parameters())
    print(
        f"{len(cases)} clips, {parameters} parameters, {about['threads']} thread(s), batches of {BATCH}, "
        f"{len(percent)} pairs of steps"
    )
    for name, values in seconds.items():
        print(f"{name}: {told([1e3 * value for value in values], ' ms')} of processor time a step")
    print(f"overhead: {told(percent, ' %', 1)}")
    results = {"clips": len(cases), "parameters": parameters, "seconds a step": seconds}
    save(given, "skeleton_training", about, {**results, "overhead in percent": spread(percent)})


if __name__ == "__main__":
    main()
