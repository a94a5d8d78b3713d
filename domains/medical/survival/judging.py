"""How predictions are judged: single patients by error and likelihood, the whole part by concordance and AUC.

What is observed of a patient are plain numbers, so that the numbers of a set can be computed again from a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from domains.medical.survival.brier import brier_of_patients, integrated
from domains.medical.survival.discrimination import concordance, dynamic_auc
from domains.medical.survival.losses import nll_of_patients
from domains.medical.survival.plan import Plan
from domains.medical.survival.predictor import SurvivalPrediction
from pipelines.cases import Case
from pipelines.evaluation.metric import Metric
from pipelines.task import MetricRow, Observation

__all__ = ["METRICS", "SURVIVAL", "column_of_time", "columns", "judge_patient", "judge_set", "observe_patient"]

SURVIVAL = "survival"
"""The class of numbers that are not of one time."""

METRICS: Mapping[str, Metric] = {
    "c_index": Metric(
        worst=0.0, summary="share of comparable pairs of patients in the right order (Harrell)", label="C-index"
    ),
    "c_index_ipcw": Metric(
        worst=0.0, summary="C-index weighted against censoring, up to the horizon (Uno)", label="Uno's C-index"
    ),
    "auc": Metric(worst=0.0, summary="area under the ROC curve of events until a time, weighted against censoring"),
    "integrated_brier": Metric(
        better="lower",
        summary="weighted squared error of predicted survival, mean over time up to the horizon",
        label="Integrated Brier score",
    ),
    "nll": Metric(
        better="lower",
        summary="negative log-likelihood of the interval of the event or censoring",
        label="Negative log-likelihood",
    ),
}


def judge_patient(case: Case, result: SurvivalPrediction | None, plan: Plan) -> list[MetricRow]:
    """`integrated_brier` and `nll`; without a prediction, those of one that is as wrong as can be."""
    time, event = float(case.labels["time"]), int(case.labels["event"])
    at = int(plan.intervals.of([time])[0])
    grid = plan.judging.grid
    if result is None:
        survival = np.full((1, len(grid)), 0.0)
        survival[0, grid >= time] = 1.0  # dead while followed, alive afterwards
        hazards = np.ones(plan.intervals.count)
        if event:
            hazards[at] = 0.0
    else:
        survival = plan.intervals.survival_at(result.survival[None], grid)
        hazards = result.hazards
    error = brier_of_patients(survival, [time], [event], grid, plan.judging.censoring)
    likelihood = nll_of_patients(torch.from_numpy(hazards)[None], torch.tensor([at]), torch.tensor([event]))
    return [
        MetricRow(case.case_id, SURVIVAL, "integrated_brier", float(integrated(error, grid)[0])),
        MetricRow(case.case_id, SURVIVAL, "nll", float(likelihood[0])),
    ]


def observe_patient(case: Case, result: SurvivalPrediction, plan: Plan, times: Sequence[float]) -> Observation:
    """What judging a set needs of a patient.

    `followed` is the probability, over the training part, of not being censored until the patient's time or the
    horizon; `model` tells apart the models of a cross-validation, whose risks are not on one scale.
    """
    time = float(case.labels["time"])
    asked = [one for one in times if one <= plan.judging.horizon]
    survival = plan.intervals.survival_at(result.survival[None], asked)[0] if asked else []
    return {
        "time": time,
        "event": int(case.labels["event"]),
        "risk": result.risk,
        "followed": plan.judging.followed(time),
        "horizon": plan.judging.horizon,
        "model": _name_of(plan),
        **{column_of_time(one): float(1 - left) for one, left in zip(asked, survival, strict=True)},
    }


def judge_set(
    cases: Sequence[Case], observed: Mapping[str, Observation], times: Sequence[float], unit: str
) -> dict[tuple[str, str], float]:
    """Both concordances, and the AUC at each time; a patient without a prediction loses every pair."""
    seen = columns(cases, observed, ["risk", "followed", "horizon", *map(column_of_time, times)])
    time, event = seen["time"], seen["event"]
    horizon = float(np.nanmin(seen["horizon"])) if np.isfinite(seen["horizon"]).any() else float("nan")
    followed = np.nan_to_num(seen["followed"], nan=1.0)
    judged = {
        (SURVIVAL, "c_index"): concordance(seen["risk"], time, event),
        (SURVIVAL, "c_index_ipcw"): concordance(seen["risk"], time, event, weights=followed**-2, horizon=horizon),
    }
    for one in times:
        risk = seen[column_of_time(one)]
        auc = dynamic_auc(risk, time, event, at=one, weights=1 / followed) if one <= horizon else float("nan")
        judged[f"until {one:g} {unit}", "auc"] = auc
    return judged


def columns(
    cases: Sequence[Case], observed: Mapping[str, Observation], names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """`time`, `event` and what was observed under some names, each `(N,)`; NaN where there is no prediction."""
    nothing: Observation = {}
    rows = [observed.get(case.case_id, nothing) for case in cases]
    found = {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names}
    found["time"] = np.array([case.labels["time"] for case in cases], dtype=float)
    found["event"] = np.array([case.labels["event"] for case in cases], dtype=float)
    return found


def column_of_time(time: float) -> str:
    """Name of the predicted probability of an event until a time."""
    return f"event_until_{time:g}"


def _name_of(plan: Plan) -> str:
    told = json.dumps([plan.baseline, plan.judging.horizon, plan.intervals.inner]).encode()
    return hashlib.sha256(told).hexdigest()[:8]
