"""A tiny task to train in tests: find the bright half of small noisy images. Also a script that trains it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.cases import Case, CaseTable
from pipelines.errors import CaseError, Interrupted, PulvinarError
from pipelines.runs import RunFolder
from pipelines.task import Figure, Item, MetricRow, Predictor, SampleKey, Task, Written
from pipelines.training import TrainingResult, train
from pipelines.training.settings import TrainingSettings

SIDE = 8


def make_cases(count: int, prefix: str = "case") -> list[Case]:
    return [Case(f"{prefix}{number:02d}", f"group{number}", {}) for number in range(count)]


def image_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Image `(1, SIDE, SIDE)` float32 and label `(SIDE, SIDE)` int64, from the name of the case alone."""
    generator = np.random.default_rng([ord(letter) for letter in case.case_id])
    label = np.zeros((SIDE, SIDE), np.int64)
    label[:, : generator.integers(2, SIDE - 1)] = 1
    image = label + generator.normal(0, 0.5, label.shape)
    return image[None].astype(np.float32), label


class ToyData:
    def __init__(self, cases: Sequence[Case], seed: int, unreadable: frozenset[str]) -> None:
        self.cases, self.seed, self.unreadable = cases, seed, unreadable
        self.loaded: list[SampleKey] = []

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        case = self.cases[key.index]
        if case.case_id in self.unreadable:
            raise CaseError(case.case_id, "cannot be read", hint="Repair it.")
        self.loaded.append(key)
        image, label = image_of(case)
        noise = np.random.default_rng((self.seed, key.epoch, key.index)).normal(0, 0.1, image.shape).astype(np.float32)
        # Torch's global randomness is seeded for each sample too; a transform that uses it is as repeatable.
        return {"image": torch.from_numpy(image + noise) + 0.05 * torch.randn(()), "label": label, "id": case.case_id}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "image": torch.stack([sample["image"] for sample in samples]),
            "label": torch.stack([torch.from_numpy(sample["label"]) for sample in samples]),
            "case_id": [sample["id"] for sample in samples],
        }


class ToyPredictor(Predictor[Tensor, Any]):
    def __init__(self, task: ToyTask, network: nn.Module) -> None:
        self.task, self.network = task, network

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        return []

    def read(self, item: Item) -> Tensor:
        if item.item_id in self.task.unreadable:
            raise CaseError(item.item_id, "cannot be read")
        return torch.from_numpy(image_of(Case(item.item_id, "", {}))[0])[None]

    def infer(self, loaded: Tensor) -> Any:
        assert not self.network.training
        return self.network(loaded).argmax(1)[0].numpy()

    def write(self, item: Item, result: Any, folder: Path) -> Written:
        return Written(())


class ToyTask(Task):
    name: ClassVar[str] = "toy"
    selection_metric: ClassVar[str] = "accuracy"

    def __init__(
        self,
        *,
        dropout: float = 0.2,
        unreadable: Sequence[str] = (),
        before_step: Callable[[int], None] = lambda step: None,
        spoil: Callable[[int, Tensor], Tensor] = lambda step, loss: loss,
        scores: Sequence[float] = (),
    ) -> None:
        self.dropout, self.unreadable = dropout, frozenset(unreadable)
        self.before_step, self.spoil, self.scores = before_step, spoil, list(scores)
        self.steps = self.judged = 0
        self.seen: list[list[str]] = []

    def read_cases(self) -> CaseTable:
        return CaseTable((), Path(), "toy")

    def check_case(self, case: Case) -> dict[str, Any]:
        return {}

    def fit(self, training: Sequence[Case]) -> None:
        pass

    def training_data(self, cases: Sequence[Case], *, seed: int) -> ToyData:
        self.data = ToyData(cases, seed, self.unreadable)
        return self.data

    def build_network(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.GroupNorm(2, 8),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 2, 1),
        )

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.before_step(self.steps)
        logits = network(batch["image"])
        assert logits.dtype == torch.float32
        loss = self.spoil(self.steps, nn.functional.cross_entropy(logits, batch["label"]))
        self.steps += 1
        self.seen.append(list(batch["case_id"]))
        return {"loss": loss, "entropy": loss.detach() * 2}

    def predictor(self, network: nn.Module, *, device: torch.device) -> ToyPredictor:
        self.judged += 1
        return ToyPredictor(self, network)

    def item(self, case: Case) -> Item:
        return Item(case.case_id, ())

    def judge(self, case: Case, result: Any) -> list[MetricRow]:
        if self.scores:
            return [MetricRow(case.case_id, "all", "accuracy", self.scores[self.judged - 1])]
        label = image_of(case)[1]
        return [
            MetricRow(case.case_id, name, "accuracy", float((result == label)[label == value].mean()))
            for name, value in (("dark", 0), ("bright", 1))
        ]

    def draw(self, case: Case, result: Any) -> list[Figure]:
        return []

    def describe(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Task:
        return cls()

    def with_workflow(self, config: Any) -> Task:
        return self

    def example_batch(self, batch_size: int) -> Any:
        return {"image": torch.zeros(batch_size, 1, SIDE, SIDE), "label": torch.zeros(batch_size, SIDE, SIDE).long()}


def run_toy(folder: Path, values: Mapping[str, Any], *, task: ToyTask | None = None, **more: Any) -> TrainingResult:
    from rich.console import Console

    settings = TrainingSettings.model_validate({"device": "cpu", "precision": "fp32", **values})
    arguments: dict[str, Any] = {"seed": 7, "console": Console(quiet=True), **more}
    training = arguments.pop("training", make_cases(10))
    validation = arguments.pop("validation", make_cases(3, "val"))
    return train(task or ToyTask(), training, validation, RunFolder(folder), settings=settings, **arguments)


def die_at(kind: str, number: int) -> ToyTask:
    """A task that kills its own process: at a training step, or when a checkpoint folder is moved."""
    if kind == "step":
        return ToyTask(before_step=lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == number else None)
    counts = {"replace": 0}
    move = os.replace

    def replace(source: Any, target: Any) -> None:
        if ".part" in str(source) or "previous" in str(target):
            counts["replace"] += 1
            if counts["replace"] == number:
                os.kill(os.getpid(), signal.SIGKILL)
        move(source, target)

    os.replace = replace
    return ToyTask()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--deaths", type=json.loads, default=[])
    parser.add_argument("--slow", type=float, default=0)
    parser.add_argument("--validation", type=int, default=3)
    options = parser.parse_args()
    import torch._dynamo
    import torch.utils.checkpoint  # noqa: F401 (children inherit what is imported here)

    for number, (kind, at) in enumerate(options.deaths):
        # No tensor was touched yet in this process, so it has no threads that a fork would lose.
        child = os.fork()
        if child == 0:
            run_toy(options.folder / f"death{number}", options.settings, task=die_at(kind, at))
            os._exit(0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    if options.deaths:
        return 0
    task = ToyTask(dropout=0.0, before_step=lambda step: time.sleep(options.slow))
    try:
        result = run_toy(
            options.folder,
            options.settings,
            task=task,
            resume=options.resume,
            validation=make_cases(options.validation, "val"),
        )
    except PulvinarError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return int(error.exit_code)
    sys.stdout.write(json.dumps({"score": result.best_score, "steps": result.steps_done, "seen": task.seen}) + "\n")
    return 0


if __name__ == "__main__":
    status = main()
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    sys.exit(status)


__all__ = ["Interrupted", "ToyTask", "make_cases", "run_toy"]
