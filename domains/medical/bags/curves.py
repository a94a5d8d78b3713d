"""Pictures of judged bags: ROC and precision-recall with bands, calibration, confusion, attention of one bag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.bags.judging import together
from domains.medical.bags.predictor import BagPrediction
from domains.medical.bags.scores import claims
from domains.medical.bags.target import Target
from pipelines.cases import Case
from pipelines.task import Figure, Observation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_bag", "draw_bags"]

_RESAMPLES = 500
_GRID = np.linspace(0, 1, 101)
_SIZE = (4.8, 4.2)
_CLASSES = 12
"""Classes that a picture shows at most."""

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


def draw_bags(
    cases: Sequence[Case], observed: Mapping[str, Observation], target: Target, *, seed: int, confidence: float = 0.95
) -> list[Figure]:
    """ROC, precision-recall, reliability and, for exclusive classes, the confusion matrix; bands are over groups."""
    truth, probability = together(cases, observed, target)
    groups = np.unique([case.group for case in cases], return_inverse=True)[1]
    shown = range(len(target.names))[-_CLASSES:]
    if len(target.names) == 2 and not target.several:
        shown = range(1, 2)
    names = {number: target.names[number] for number in shown if 0 < truth[:, number].sum() < len(truth)}
    figures = []
    if names:
        figures += [
            _curves("roc", _roc, truth, probability, groups, names, seed=seed, confidence=confidence),
            _curves(
                "precision_recall",
                _precision_recall,
                truth,
                probability,
                groups,
                names,
                seed=seed,
                confidence=confidence,
            ),
        ]
    figures.append(_reliability(truth, probability, target))
    if not target.several:
        figures.append(_confusion(truth, target.decide(probability), target))
    return figures


def draw_bag(case: Case, result: BagPrediction, target: Target) -> list[Figure]:
    """Attention of the instances of a bag, from the highest, and on their places where the bag has them."""
    import pandas as pd

    order = np.argsort(-result.attention, kind="stable")
    table = pd.DataFrame({"instance": order, "attention": result.attention[order]})
    if result.coords is not None:
        table["x"], table["y"] = result.coords[order].T
    told = ", ".join(f"{name} {value:.2f}" for name, value in zip(target.names, result.probabilities, strict=True))

    def draw(axes: Axes) -> None:
        if result.coords is not None:
            _draw_places(axes, result.coords, result)
        else:
            axes.bar(np.arange(len(order)), result.attention[order], width=1.0)
            axes.axhline(1 / len(order), linestyle=":", color="0.5")
            axes.set(xlabel="instances, from the highest", ylabel="attention")
        axes.set_title(case.case_id)

    caption = f"Attention of {len(order)} instances; truth {target.told(target.of(case))}, predicted {told}."
    return [Figure(case.case_id, _render(draw), caption, table, case.case_id)]


def _draw_places(axes: Axes, coords: NDArray[np.int64], result: BagPrediction) -> None:
    """Tiles where they lie and as large as they are; dots where the bag does not say how large."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    across = result.attributes.get("patch_size_level0")
    shown: Any
    if across is None:
        shown = axes.scatter(coords[:, 0], coords[:, 1], c=result.attention, cmap="magma", s=12, marker="s")
    else:
        down = result.attributes.get("patch_height_level0", across)
        order = np.argsort(result.attention, kind="stable")  # where tiles overlap, the highest is on top
        tiles = [Rectangle((x, y), across, down) for x, y in coords[order].tolist()]
        shown = axes.add_collection(PatchCollection(tiles, cmap="magma", linewidths=0))
        shown.set_array(result.attention[order])
        axes.autoscale_view()
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.figure.colorbar(shown, ax=axes, label="attention")
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")


_Curve = Callable[[Flags, Numbers], tuple[Numbers, Numbers]]


def _roc(truth: Flags, score: Numbers) -> tuple[Numbers, Numbers]:
    hit, claimed = claims(truth, score)
    negative = len(truth) - hit[-1]
    return np.append(0.0, (claimed - hit) / negative), np.append(0.0, hit / hit[-1])


def _precision_recall(truth: Flags, score: Numbers) -> tuple[Numbers, Numbers]:
    hit, claimed = claims(truth, score)
    return np.append(0.0, hit / hit[-1]), np.append(1.0, hit / claimed)


_AXES = {
    "roc": ("1 - specificity", "sensitivity", "ROC"),
    "precision_recall": ("recall", "precision", "Precision and recall"),
}


def _curves(
    name: str,
    curve: _Curve,
    truth: Flags,
    probability: Numbers,
    groups: NDArray[np.intp],
    names: Mapping[int, str],
    *,
    seed: int,
    confidence: float,
) -> Figure:
    import pandas as pd

    tables = []
    for number, class_name in names.items():
        line = _on_grid(curve, truth[:, number], probability[:, number])
        low, high = _band(curve, truth[:, number], probability[:, number], groups, seed=seed, confidence=confidence)
        tables.append(pd.DataFrame({"class": class_name, "x": _GRID, "y": line, "low": low, "high": high}))
    table = pd.concat(tables, ignore_index=True)
    x_label, y_label, title = _AXES[name]

    def draw(axes: Axes) -> None:
        for class_name, rows in table.groupby("class", sort=False):
            (drawn,) = axes.plot(rows["x"], rows["y"], label=str(class_name))
            if len(names) <= 3:
                axes.fill_between(rows["x"], rows["low"], rows["high"], color=drawn.get_color(), alpha=0.2, lw=0)
        if name == "roc":
            axes.plot([0, 1], [0, 1], ":", color="0.6")
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.02), title=title)
        axes.legend(fontsize=8)

    caption = f"{title}, with a {confidence:.0%} band over groups."
    return Figure(name, _render(draw), caption, table)


def _on_grid(curve: _Curve, truth: Flags, score: Numbers) -> Numbers:
    x, y = curve(truth, score)
    line: Numbers = np.interp(_GRID, x, y)
    return line


def _band(
    curve: _Curve, truth: Flags, score: Numbers, groups: NDArray[np.intp], *, seed: int, confidence: float
) -> tuple[Numbers, Numbers]:
    """Pointwise percentiles `(grid,)` over resamples of the groups; NaN where nothing can be resampled."""
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    lines = []
    for _ in range(_RESAMPLES):
        rows = np.concatenate([members[group] for group in generator.integers(0, len(members), len(members))])
        if 0 < truth[rows].sum() < len(rows):
            lines.append(_on_grid(curve, truth[rows], score[rows]))
    if len(members) < 2 or len(lines) < _RESAMPLES / 2:
        return np.full_like(_GRID, np.nan), np.full_like(_GRID, np.nan)
    low, high = np.quantile(lines, ((1 - confidence) / 2, (1 + confidence) / 2), axis=0)
    return low, high


def _reliability(truth: Flags, probability: Numbers, target: Target) -> Figure:
    """Probability against what is so, over ten bins: of the positive class, or of all classes together."""
    import pandas as pd

    binary = len(target.names) == 2 and not target.several
    said = probability[:, 1] if binary else probability.ravel()
    is_so = truth[:, 1] if binary else truth.ravel()
    place = np.minimum((said * 10).astype(np.intp), 9)
    count = np.bincount(place, minlength=10)
    kept = count > 0
    table = pd.DataFrame(
        {
            "probability": (np.bincount(place, said, 10)[kept] / count[kept]),
            "observed": (np.bincount(place, is_so, 10)[kept] / count[kept]),
            "count": count[kept],
        }
    )
    whose = target.names[1] if binary else "a class"

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color="0.6")
        axes.plot(table["probability"], table["observed"], "-", lw=1)
        axes.scatter(table["probability"], table["observed"], s=12 + 120 * table["count"] / table["count"].sum())
        axes.set(xlabel=f"probability of {whose}", ylabel="observed share", xlim=(0, 1), ylim=(0, 1.02))
        axes.set_title("Reliability")

    return Figure("reliability", _render(draw), "How often what was said to be probable was so; dots by count.", table)


def _confusion(truth: Flags, decided: Flags, target: Target) -> Figure:
    import pandas as pd

    counts = truth.T.astype(int) @ decided.astype(int)  # (truth, predicted)
    table = pd.DataFrame(counts, columns=list(target.names))
    table.insert(0, "truth", list(target.names))

    def draw(axes: Axes) -> None:
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(counts.shape):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
        places = range(len(target.names))
        axes.set_xticks(places, target.names, rotation=45, ha="right")
        axes.set_yticks(places, target.names)
        axes.set(xlabel="predicted", ylabel="truth", title="Confusion")

    return Figure("confusion", _render(draw), "Bags by true and predicted class; shade is the share of a row.", table)


def _render(draw: Callable[[Axes], Any]) -> NDArray[np.uint8]:
    """uint8 `(height, width, 3)`, without a global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=_SIZE, dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
