"""One trained bag network, ready to serve: a bag in, probabilities and the attention of every instance out."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from domains.medical.bags.building import BagNetwork
from domains.medical.bags.networks.contract import BagOutput
from domains.medical.bags.plan import BagPlan, check_origin
from domains.medical.bags.reading import BagReader
from domains.medical.bags.settings import SlideInference
from domains.medical.bags.slides import SlideInputs
from domains.medical.slides.bagfiles import Bag
from pipelines.errors import CaseError
from pipelines.task import Item, Predictor, Written

__all__ = ["BagPrediction", "BagPredictor", "LoadedBag", "attention_entropy"]


@dataclass(frozen=True)
class LoadedBag:
    """A bag that was read."""

    bag: Bag
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BagPrediction:
    """What a network says of one bag.

    Attributes:
        probabilities: float64 `(classes,)`.
        attention: float32 `(N,)`, how much each instance counts, summing to one: of the most probable class where the
            network attends by class, else the mean over branches.
        coords: int64 `(N, 2)`, corner of each tile in pixels of level 0, where the bag has them.
        attributes: What the bag says of itself.
        seconds: Time of each step.
    """

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float32]
    coords: NDArray[np.int64] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


class BagPredictor(Predictor[LoadedBag, BagPrediction]):
    """Serves a bag network.

    Args:
        network: Bags `(B, N, F)` to `BagOutput`.
        plan: Classes and features.
        reader: Reads bags.
        device: Where the network runs.
        precision: float32, bfloat16 or float16.
        attention_table: Whether the attention of every instance is written.
        slides: What the model cannot know of slides.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: BagPlan,
        reader: BagReader,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        attention_table: bool = True,
        slides: SlideInference | None = None,
    ) -> None:
        self._network = network.to(device).eval()
        self._plan, self._reader = plan, reader
        self._device, self._precision = device, precision
        self._attention_table = attention_table
        self._slides = SlideInputs(plan.origin, slides or SlideInference(), device=str(device))

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The bags and slides in files, folders and globs; pictures too where the model was trained on pictures."""
        return self._slides.discover(inputs, pictures=self._plan.pictures)

    def read(self, item: Item) -> LoadedBag:
        """Reads a bag, or makes it of a slide. Raises `CaseError`, also where its features are of another encoder."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        bag = self._slides.read(item) if item.kind == "slide" else self._reader.read(item)
        check_origin(item.item_id, bag, self._plan)
        return LoadedBag(bag, {"read": time.perf_counter() - started})

    def infer(self, loaded: LoadedBag) -> BagPrediction:
        """Probabilities and attention of a bag."""
        started = time.perf_counter()
        bag = loaded.bag
        was_training = self._network.training  # A caller may train the same network in between.
        self._network.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32),
            ):
                output = self._network(torch.from_numpy(bag.features).unsqueeze(0).to(self._device))
        finally:
            self._network.train(was_training)
        logits = output.logits[0].double()
        probabilities = (logits.sigmoid() if self._plan.target.several else logits.softmax(-1)).cpu().numpy()
        attention = _shown_attention(self._network, output, int(logits.argmax()))
        seconds = {**loaded.seconds, "infer": time.perf_counter() - started}
        return BagPrediction(probabilities, attention, bag.coords, bag.attributes, seconds)

    def write(self, item: Item, result: BagPrediction, folder: Path) -> Written:
        """Writes `ITEM.json`, of every instance `ITEM.attention.csv`, and of a slide the pictures of its attention."""
        folder.mkdir(parents=True, exist_ok=True)
        summary = self.summarise(result)
        files = [folder / f"{item.item_id}.json"]
        files[0].write_text(json.dumps({"item": item.item_id, **summary}, indent=2) + "\n", encoding="utf-8")
        if self._attention_table:
            files.append(folder / f"{item.item_id}.attention.csv")
            _write_attention(files[-1], result)
        if item.kind == "slide" and result.coords is not None:
            files += self._slides.draw(item, result.coords, result.attributes, result.attention, folder)
        return Written(tuple(files), summary)

    def summarise(self, result: BagPrediction) -> dict[str, Any]:
        """Class, probabilities, instances and how evenly they are looked at: plain values."""
        target = self._plan.target
        return {
            "predicted": target.told(target.decide(result.probabilities)),
            "probabilities": {
                name: round(float(value), 6) for name, value in zip(target.names, result.probabilities, strict=True)
            },
            "instances": len(result.attention),
            "attention_entropy": round(attention_entropy(result.attention), 6) if len(result.attention) > 1 else None,
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        }


def attention_entropy(attention: NDArray[np.floating[Any]]) -> float:
    """Entropy of weights `(N,)` over its largest value, log N: 0 for one instance alone, 1 for all alike.

    NaN for a bag of one instance.
    """
    if len(attention) < 2:
        return math.nan
    shares = attention[attention > 0].astype(np.float64)
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum() / math.log(len(attention)))


def _shown_attention(network: nn.Module, output: BagOutput, chosen: int) -> NDArray[np.float32]:
    assert output.attention is not None
    rows = output.attention[0].float()  # (K, N)
    by_class = isinstance(network, BagNetwork) and network.network.attends_by_class
    row = rows[chosen] if by_class else rows.mean(0)
    shown: NDArray[np.float32] = row.cpu().numpy()
    return shown


def _write_attention(path: Path, result: BagPrediction) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        corners = result.coords
        writer.writerow(["instance", *(() if corners is None else ("x", "y")), "attention"])
        for number, weight in enumerate(result.attention):
            place = () if corners is None else corners[number].tolist()
            writer.writerow([number, *place, f"{weight:.6g}"])
