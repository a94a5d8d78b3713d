"""Pictures of judged patients: survival by group of risk, agreement with what was foretold, one patient's curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.survival.judging import column_of_time, columns
from domains.medical.survival.plan import Plan
from domains.medical.survival.predictor import SurvivalPrediction
from pipelines.cases import Case
from pipelines.task import Figure, Observation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["draw_calibration", "draw_patient", "draw_risk_groups", "risk_groups"]

_COLOURS = ("#2a6f97", "#c1440e", "#6a994e", "#7b2d8b", "#b08900")
_LEAST = 8
"""Patients of a group below which a figure says nothing."""


def risk_groups(risk: NDArray[np.float64], models: Sequence[str], count: int) -> NDArray[np.int64]:
    """Groups of equal size by rising risk, from 0, made within each model: `(N,)`.

    Risks of the models of a cross-validation are not on one scale, their order within each is.
    """
    groups = np.zeros(len(risk), dtype=np.int64)
    for model in dict.fromkeys(models):
        own = np.flatnonzero(np.array([one == model for one in models]))
        order = np.argsort(np.argsort(risk[own], kind="stable"), kind="stable")
        groups[own] = order * count // len(own)
    return groups


def draw_risk_groups(
    cases: Sequence[Case], observed: Mapping[str, Observation], *, groups: int, unit: str, simulated: bool
) -> list[Figure]:
    """Kaplan-Meier curves with 95 % intervals, the log-rank test between them, and how many were at risk."""
    import pandas as pd
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import multivariate_logrank_test

    cases = [case for case in cases if case.case_id in observed]
    if len(cases) < _LEAST * groups:
        return []
    seen = columns(cases, observed, ["risk"])
    group = risk_groups(seen["risk"], [str(observed[case.case_id]["model"]) for case in cases], groups)
    test = multivariate_logrank_test(seen["time"], group, seen["event"])
    canvas = _canvas(6.4, 4.0 + 0.22 * groups)
    axes = canvas.add_axes((0.13, 0.3, 0.84, 0.67))
    rows = []
    for number, name in enumerate(_names(groups)):
        own = group == number
        label = f"{name} risk, {int(own.sum())} patients"
        curve = KaplanMeierFitter().fit(seen["time"][own], seen["event"][own], label=label)
        curve.plot_survival_function(ax=axes, color=_COLOURS[number], show_censors=True, censor_styles={"ms": 5})
        table = curve.survival_function_.join(curve.confidence_interval_).reset_index()
        table.columns = ["time", "survival", "low", "high"]
        rows.append(table.assign(group=f"{name} risk"))
    axes.set(ylim=(0, 1.02), xlim=(0, None), ylabel="without the event", xlabel=f"time ({unit})")
    axes.legend(loc="best", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _write_at_risk(axes, seen["time"], group, groups)
    chance = _told(float(test.p_value))
    share = {2: "halves", 3: "thirds", 4: "quarters", 5: "fifths"}[groups]
    caption = (
        f"{_prefix(simulated)}Survival as observed (Kaplan-Meier, 95 % intervals) in {share} of the judged patients by "
        f"predicted risk, made within each model. Log-rank test: p {chance}."
    )
    return [Figure("survival-by-risk", _pixels(canvas), caption, data=pd.concat(rows, ignore_index=True))]


def draw_calibration(
    cases: Sequence[Case], observed: Mapping[str, Observation], *, time: float, unit: str, simulated: bool
) -> list[Figure]:
    """Predicted against observed probability of an event until a time, in quarters of the patients by prediction."""
    import pandas as pd
    from lifelines import KaplanMeierFitter

    name = column_of_time(time)
    cases = [case for case in cases if name in observed.get(case.case_id, {})]
    parts = 4
    seen = columns(cases, observed, [name])
    if len(cases) < _LEAST * parts or not np.isfinite(seen[name]).all():
        return []
    group = risk_groups(seen[name], [""] * len(cases), parts)
    rows = []
    for number in range(parts):
        own = group == number
        curve = KaplanMeierFitter().fit(seen["time"][own], seen["event"][own])
        alive = float(curve.predict(time))
        bounds = curve.confidence_interval_.loc[:time].iloc[-1].to_numpy(dtype=float)
        rows.append((float(seen[name][own].mean()), 1 - alive, 1 - bounds.max(), 1 - bounds.min(), int(own.sum())))
    table = pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "patients"])
    canvas = _canvas(4.4, 4.2)
    axes = canvas.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["observed"].to_numpy())
    axes.errorbar(table["predicted"], table["observed"], yerr=errors, fmt="o-", color=_COLOURS[0], capsize=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"predicted event until {time:g} {unit}", ylabel="observed")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    canvas.tight_layout()
    caption = (
        f"{_prefix(simulated)}Predicted and observed probability of an event until {time:g} {unit}, in quarters of the "
        "judged patients by prediction, with 95 % intervals; on the grey line they agree."
    )
    return [Figure("calibration", _pixels(canvas), caption, data=table)]


def draw_patient(case: Case, result: SurvivalPrediction, plan: Plan) -> Figure:
    """The predicted curve of one patient beside that of the training part, and what happened."""
    import pandas as pd

    times = np.linspace(0.0, plan.intervals.horizon, 100)
    predicted = plan.intervals.survival_at(result.survival[None], times)[0]
    baseline = plan.intervals.survival_at(np.cumprod(1 - np.array(plan.baseline))[None], times)[0]
    time, event = float(case.labels["time"]), int(case.labels["event"])
    canvas = _canvas(5.2, 3.4)
    axes = canvas.add_subplot()
    axes.plot(times, baseline, color="0.6", label="training part")
    axes.plot(times, predicted, color=_COLOURS[0], label="predicted")
    axes.axvline(time, color=_COLOURS[1], linestyle="-" if event else ":", label="event" if event else "censored")
    axes.set(ylim=(0, 1.02), xlim=(0, None), xlabel=f"time ({plan.unit})", ylabel="without the event")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.tight_layout()
    happened = "event" if event else "censored"
    caption = f"{_prefix(plan.synthetic)}Predicted survival; {happened} at {time:g} {plan.unit}."
    table = pd.DataFrame({"time": times, "predicted": predicted, "training": baseline})
    return Figure(case.case_id, _pixels(canvas), caption, data=table, case_id=case.case_id)


def _write_at_risk(axes: Axes, time: NDArray[np.float64], group: NDArray[np.int64], groups: int) -> None:
    """A line for each group below the axis: how many are still followed at each tick."""
    ticks = [float(tick) for tick in axes.get_xticks() if tick <= axes.get_xlim()[1]]
    place = axes.get_xaxis_transform()  # x in data, y in heights of the axes
    axes.text(0, -0.2, "at risk", transform=place, ha="center", va="top", color="0.35", fontsize=9)
    for number, name in enumerate(_names(groups)):
        height = -0.265 - 0.065 * number
        style: dict[str, Any] = {"va": "top", "color": _COLOURS[number], "fontsize": 9}
        axes.annotate(name, (0, height), (-16, 0), place, "offset points", ha="right", **style)
        for tick in ticks:
            followed = int((time[group == number] >= tick).sum())
            axes.text(tick, height, str(followed), transform=place, ha="center", **style)


def _names(groups: int) -> tuple[str, ...]:
    if groups == 2:
        return ("lower", "higher")
    if groups == 3:
        return ("low", "middle", "high")
    return tuple(
        f"{'lowest' if not number else 'highest' if number == groups - 1 else f'{number + 1}.'}"
        for number in range(groups)
    )


def _told(chance: float) -> str:
    return "< 0.0001" if chance < 1e-4 else f"= {chance:.2g}"


def _prefix(simulated: bool) -> str:
    return "SIMULATED bags. " if simulated else ""


def _canvas(width: float, height: float) -> Canvas:
    """A figure that no window manager knows, so that threads may draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(canvas)
    return canvas


def _pixels(canvas: Any) -> NDArray[np.uint8]:
    canvas.canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.canvas.buffer_rgba())[..., :3])
