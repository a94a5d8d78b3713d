"""Bags of a patient, from files or drawn with a planted signal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.bagfiles import Bag, read_bag, read_bag_attributes, write_bag
from domains.medical.survival.data_settings import SimulatedBags
from domains.medical.survival.kaplan_meier import kaplan_meier
from pipelines.cases import Case, CaseTable
from pipelines.errors import CaseError
from pipelines.runs import write_atomically

__all__ = ["BagStore", "bag_shape", "planted_signal", "read_bags", "simulate_bags"]


def read_bags(case_id: str, paths: Sequence[Path], *, features: int | None = None) -> NDArray[np.float32]:
    """All instances of a patient's slides, `(N, C)` float32.

    Args:
        case_id: For messages.
        paths: One file for each slide.
        features: Width that an instance must have, where it is known.

    Raises:
        CaseError: There is no file, one cannot be read, or widths differ.
    """
    if not paths:
        raise CaseError(case_id, "no bag of features is named", hint="The network looks at slides too.")
    bags = [read_bag(case_id, path).features for path in paths]
    wanted = bags[0].shape[1] if features is None else features
    for path, bag in zip(paths, bags, strict=True):
        if bag.shape[1] != wanted:
            raise CaseError(
                case_id,
                f"{path.name} has {bag.shape[1]} features an instance, not {wanted}",
                hint="Bags of one model come from one encoder.",
            )
    return np.concatenate(bags)


def bag_shape(case_id: str, paths: Sequence[Path]) -> tuple[int, int]:
    """Instances of all slides of a patient, and their width; HDF5 files are not read through. Raises `CaseError`."""
    shapes = []
    for path in paths:
        if path.suffix.lower() == ".pt":
            shapes.append(read_bag(case_id, path).features.shape)
            continue
        if not path.is_file():
            raise CaseError(case_id, f"file not found: {path.name}", hint="Check data.bags.")
        told = read_bag_attributes(case_id, path)
        shapes.append((int(told["instances"]), int(told["features"])))
    widths = sorted({width for _, width in shapes})
    if len(widths) != 1 or not sum(count for count, _ in shapes):
        what = f"bags of {widths} features" if widths else "no bag of features is named"
        raise CaseError(case_id, what if len(widths) != 1 else "empty bags", hint="Bags of one model have one width.")
    return sum(count for count, _ in shapes), widths[0]


@dataclass
class BagStore:
    """The bags of some patients by number, kept in memory as far as a limit allows.

    Attributes:
        cases: The patients.
        features: Width of an instance.
        limit: Bytes.
    """

    cases: tuple[Case, ...]
    features: int
    limit: int
    _kept: dict[int, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def __call__(self, number: int) -> NDArray[np.float32]:
        """One bag `(N, C)`. Raises `CaseError`."""
        found = self._kept.get(number)
        if found is None:
            case = self.cases[number]
            found = read_bags(case.case_id, case.files("bag"), features=self.features)
            if sum(bag.nbytes for bag in self._kept.values()) + found.nbytes <= self.limit:
                self._kept[number] = found
        return found


def planted_signal(
    time: NDArray[np.float64], event: NDArray[np.int64], *, noise: float, seed: int
) -> NDArray[np.float64]:
    """What a patient's simulated bag is moved by, `(N,)` of mean 0 and variance 1: high for an early event.

    It is the martingale residual of each patient (Nelson-Aalen, in logarithms of survival), hidden under noise.
    """
    alive = np.maximum(kaplan_meier(time, event).at(time), 0.5 / len(time))
    residual = event + np.log(alive)
    residual = (residual - residual.mean()) / max(float(residual.std()), 1e-9)
    hidden = residual + noise * np.random.default_rng(seed).normal(size=len(time))
    return np.asarray((hidden - hidden.mean()) / max(float(hidden.std()), 1e-9))


def simulate_bags(table: CaseTable, settings: SimulatedBags, output: Path) -> CaseTable:
    """Writes a SIMULATED bag for each patient that has none yet, and names it in the cases.

    A patient's signal is drawn from the outcomes of all patients, test part included: what is learned from it shows
    that a network can use two modalities, not how well it predicts.
    """
    cases = sorted(table.cases, key=lambda case: case.case_id)
    time = np.array([case.labels["time"] for case in cases], dtype=float)
    event = np.array([case.labels["event"] for case in cases])
    signal = planted_signal(time, event, noise=settings.noise, seed=settings.seed)
    told = settings.model_dump(mode="json", exclude={"folder"}) | {"cohort": table.name, "patients": len(cases)}
    root = output / settings.folder / f"{table.name}-{_name(told)}"
    note = {"synthetic": True, "description": "Simulated bags by Pulvinar with a planted signal; no slides.", **told}
    write_atomically(root / "simulated.json", json.dumps(note, indent=2) + "\n")
    direction = np.random.default_rng([settings.seed, 1]).normal(size=settings.features)
    direction /= np.linalg.norm(direction)
    paths = {}
    for number, case in enumerate(cases):
        paths[case.case_id] = root / f"{case.case_id}.h5"
        if not paths[case.case_id].is_file():
            features = _draw(settings, number, float(signal[number]), direction)
            write_bag(paths[case.case_id], Bag(features, attributes={"simulated": True}))
    named = tuple(replace(case, paths={**case.paths, "bag_0": paths[case.case_id].absolute()}) for case in table.cases)
    return replace(table, cases=named, name=f"{table.name} with simulated bags")


def _draw(settings: SimulatedBags, number: int, signal: float, direction: NDArray[np.float64]) -> NDArray[np.float32]:
    generator = np.random.default_rng([settings.seed, 2, number])
    count = int(generator.integers(settings.instances[0], settings.instances[1] + 1))
    features = generator.normal(size=(count, settings.features))
    moved = generator.permutation(count)[: max(1, round(settings.share * count))]
    features[moved] += settings.strength * signal * direction
    return features.astype(np.float32)


def _name(told: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:8]
