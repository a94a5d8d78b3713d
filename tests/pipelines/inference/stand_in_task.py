"""A task whose network is one linear layer, importable in workers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stand_in_predictor import StandInPredictor
from torch import nn

from pipelines.task import Item, Task, Written


class ScalingPredictor(StandInPredictor):
    """Items hold a number; the result is what the network makes of it."""

    def __init__(self, network: nn.Module, device: torch.device, offset: float) -> None:
        super().__init__()
        self.network, self.device, self.offset = network, device, offset

    def infer(self, loaded: str) -> str:
        with torch.inference_mode():
            return f"{self.network(torch.tensor([[float(loaded)]], device=self.device)).item() + self.offset:g}"

    def write(self, item: Item, result: str, folder: Path) -> Written:
        path = folder / f"{item.item_id}.upper"
        path.write_text(result)
        return Written((path,), {"value": float(result), "threads": torch.get_num_threads()})


class ScalingTask(Task):
    """Serves only; nothing is trained."""

    name = "test/scaling"
    selection_metric = "error"

    def __init__(self, width: int = 1, offset: float = 0.0, **other: Any) -> None:
        self.width, self.offset, self.other = width, offset, other

    def build_network(self) -> nn.Module:
        return nn.Linear(1, self.width, bias=False)

    def describe(self) -> dict[str, Any]:
        return {"network": {"width": self.width}, "infer": {"offset": self.offset}, **self.other}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ScalingTask:
        if not isinstance(description["infer"]["offset"], int | float):
            raise ValueError(f"offset is {description['infer']['offset']!r}, not a number")
        return cls(description["network"]["width"], description["infer"]["offset"])

    def predictor(self, network: nn.Module, *, device: torch.device) -> ScalingPredictor:
        return ScalingPredictor(network, device, self.offset)


# Serving asks for none of what training needs.
ScalingTask.__abstractmethods__ = frozenset()
