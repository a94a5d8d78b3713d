"""One trained survival network, ready to serve: a row of a table in, a risk and a survival curve out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domains.medical.survival.bags import read_bags
from domains.medical.survival.cases import bag_path
from domains.medical.survival.data_settings import BagFiles
from domains.medical.survival.networks.contract import SurvivalNetwork
from domains.medical.survival.patients import load_features, load_table
from domains.medical.survival.plan import Plan
from pipelines.caseids import identifier_problem, normal_identifier
from pipelines.errors import CaseError, DataError
from pipelines.task import Item, Predictor, Written

__all__ = ["LoadedPatient", "SurvivalPrediction", "SurvivalPredictor", "discover_patients"]

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".zip")
_CURVE_POINTS = 25
_FINE = 2001


@dataclass(frozen=True)
class LoadedPatient:
    """What the network looks at.

    Attributes:
        features: `(F,)` as measured; None for slides alone.
        bag: `(N, C)`; None for genomics alone.
    """

    features: NDArray[np.float32] | None
    bag: NDArray[np.float32] | None


@dataclass(frozen=True)
class SurvivalPrediction:
    """What is foretold of one patient.

    Attributes:
        risk: Higher for an earlier event; comparable between predictions of one model.
        hazards: `(K,)`, probability of the event in each interval for who entered it.
        survival: `(K,)`, probability of no event until the end of each interval.
        missing: Features without a value.
        instances: Instances of the bag.
    """

    risk: float
    hazards: NDArray[np.float64]
    survival: NDArray[np.float64]
    missing: int = 0
    instances: int = 0


class SurvivalPredictor(Predictor[LoadedPatient, SurvivalPrediction]):
    """Serves a network as its plan says.

    Args:
        network: The network.
        plan: Columns, intervals and units.
        device: Where it runs.
        genomics: Whether it looks at features.
    """

    def __init__(self, network: SurvivalNetwork, plan: Plan, *, device: torch.device, genomics: bool) -> None:
        self._network = network.to(device).eval()
        self._plan, self._device, self._genomics = plan, device, genomics

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The patients in tables: one item for each identifier."""
        return [item for path in inputs for item in discover_patients(path, self._plan)]

    def read(self, item: Item) -> LoadedPatient:
        """Features and bag of a patient. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        case_id, features, bag = item.detail["patient"], None, None
        if self._genomics:
            try:
                table = load_features(item.paths[0], case_id=self._plan.case_id, names=self._plan.features)
            except DataError as error:
                raise CaseError(item.item_id, str(error), hint=error.hint) from error
            features = table.row(case_id)
            if features is None:
                raise CaseError(item.item_id, f"the table has no row of {case_id!r}")
            if np.isnan(features).all():
                raise CaseError(item.item_id, f"none of the {len(features)} features has a value")
        if self._plan.bag_features is not None:
            bag = read_bags(item.item_id, item.paths[1:], features=self._plan.bag_features)
        return LoadedPatient(features, bag)

    @torch.no_grad()
    def infer(self, loaded: LoadedPatient) -> SurvivalPrediction:
        """Risk and survival of a patient."""
        # A caller may train the same network in between.
        was_training = self._network.training
        self._network.eval()
        try:
            output = self._network(_batch(loaded.features, self._device), _batch(loaded.bag, self._device))
        finally:
            self._network.train(was_training)
        hazards = output.hazards[0].double().cpu().numpy()
        return SurvivalPrediction(
            risk=float(output.risk[0]),
            hazards=hazards,
            survival=np.cumprod(1 - hazards),
            missing=0 if loaded.features is None else int(np.isnan(loaded.features).sum()),
            instances=0 if loaded.bag is None else len(loaded.bag),
        )

    def write(self, item: Item, result: SurvivalPrediction, folder: Path) -> Written:
        """Writes `ITEM.json` with risk and hazards, and `ITEM.survival.csv` with the curve."""
        folder.mkdir(parents=True, exist_ok=True)
        summary = describe_prediction(result, self._plan)
        record = folder / f"{item.item_id}.json"
        record.write_text(json.dumps({"item": item.item_id, **summary}, indent=2, ensure_ascii=False) + "\n")
        curve = folder / f"{item.item_id}.survival.csv"
        curve.write_text(_curve(result, self._plan))
        return Written((record, curve), summary)


def discover_patients(path: Path, plan: Plan) -> list[Item]:
    """One item for each patient of a table; a table that cannot be used is an item with a problem."""
    if path.suffix.lower() not in _TABLES:
        wanted = ", ".join(_TABLES)
        return [Item(path.name, (path,), problem=f"not a table of patients; a survival model reads {wanted}")]
    try:
        frame = load_table(path, case_id=plan.case_id)
        cells = [("" if cell != cell else str(cell)) for cell in frame[plan.case_id]]
        bags = _bags_of_rows(path, plan, len(frame))
    except DataError as error:
        return [Item(path.name.split(".")[0], (path,), problem=str(error))]
    files: dict[str, list[Path]] = {}
    for cell, bag in zip(cells, bags, strict=True):
        files.setdefault(normal_identifier(cell), []).extend(bag)
    items = []
    for number, (case_id, found) in enumerate(files.items(), start=1):
        problem = identifier_problem(case_id)
        name = case_id if not problem else f"{path.name.split('.')[0]}_patient_{number}"
        paths = (path, *dict.fromkeys(found))
        items.append(Item(name, paths, kind="patient", detail={"patient": case_id}, problem=problem))
    return items


def describe_prediction(result: SurvivalPrediction, plan: Plan) -> dict[str, Any]:
    """Risk, median survival time, survival at the end of each interval: plain values."""
    ends = (*plan.intervals.inner, None)
    return {
        "risk": round(result.risk, 6),
        "unit": plan.unit,
        "median_survival": _median(result, plan),
        "survival_to": round(plan.intervals.horizon, 4),
        "intervals": [
            {"until": None if end is None else round(end, 4), "hazard": round(hazard, 6), "survival": round(left, 6)}
            for end, hazard, left in zip(ends, result.hazards.tolist(), result.survival.tolist(), strict=True)
        ],
        "missing_features": result.missing,
        "instances": result.instances,
    } | ({"simulated": "trained on simulated bags"} if plan.synthetic else {})


def _bags_of_rows(path: Path, plan: Plan, count: int) -> list[list[Path]]:
    """Bag files of each row, none where the model looks at none."""
    if plan.bag_column is None:
        return [[] for _ in range(count)]
    column, suffix = plan.bag_column
    frame = load_table(path, case_id=plan.case_id)
    if column not in frame.columns:
        raise DataError(f"{path.name} has no column {column!r} of bag files", hint="The model looks at slides too.")
    settings = BagFiles(column=column, suffix=suffix)
    return [
        [bag_path(str(cell).strip(), settings, path.parent)] if cell == cell and str(cell).strip() else []
        for cell in frame[column]
    ]


def _median(result: SurvivalPrediction, plan: Plan) -> float | None:
    """When survival falls to one half; None where it does not until the horizon."""
    times = np.linspace(0.0, plan.intervals.horizon, _FINE)
    survival = plan.intervals.survival_at(result.survival[None], times)[0]
    return None if survival[-1] > 0.5 else round(float(times[np.argmax(survival <= 0.5)]), 2)


def _curve(result: SurvivalPrediction, plan: Plan) -> str:
    times = np.linspace(0.0, plan.intervals.horizon, _CURVE_POINTS)
    survival = plan.intervals.survival_at(result.survival[None], times)[0]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"time_{plan.unit}", "survival"])
    writer.writerows((f"{time:.4f}", f"{value:.6f}") for time, value in zip(times, survival, strict=True))
    return text.getvalue()


def _batch(values: NDArray[np.float32] | None, device: torch.device) -> torch.Tensor | None:
    return None if values is None else torch.from_numpy(values).to(device)[None]
