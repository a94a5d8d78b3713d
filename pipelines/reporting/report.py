"""The report of a run: one HTML file, made from the files of the run folder and nothing else."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.reporting.charts import Line, interval_bar, line_chart, strip_plot
from pipelines.reporting.contents import OVER_CLASSES, Picture, RunContents, read_run
from pipelines.reporting.folds import fold_table
from pipelines.reporting.glossary import Metric, describe_metric
from pipelines.reporting.judged import Judged, anchor
from pipelines.reporting.pictures import embed_pictures
from pipelines.runs import RunFolder, write_atomically

__all__ = ["build_report"]

_PARTS = ("train", "validation", "test")
_MOST_PICTURES = 40
_MOST_CARDS = 5
_MOST_ROWS = 2000
_OVER, _OVERALL = "Mean of the classes", "Overall"


def build_report(run: RunFolder) -> Path:
    """Writes `report.html`, self-contained: it opens from a mail, without a network. Returns its path.

    Files that are missing (a run that was interrupted or has not been judged) leave a report that says what is missing.
    """
    import jinja2

    contents = read_run(run)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["duration"] = _duration
    write_atomically(run.report, environment.get_template("report.html.jinja").render(_view(contents, run)))
    return run.report


def _view(contents: RunContents, run: RunFolder) -> dict[str, Any]:
    judged = Judged(contents)
    return {
        "contents": contents,
        "status": contents.status,
        "run_name": f"{run.root.resolve().parent.name}/{run.root.resolve().name}",
        "judged": judged,
        "first": judged.first,
        "main": judged.headline,
        "confidence": _confidence(contents),
        "headline": _headline(judged),
        "results": _results(judged, _confidence(contents)),
        "folds": fold_table(contents.folds, judged.summed),
        "strips": [
            (
                metric,
                strip_plot(
                    f"{metric.label} by case", judged.strips(metric), x_label=_axis(metric), bounds=metric.bounds
                ),
            )
            for metric in judged.metrics
        ],
        "case_rows": judged.case_table()[:_MOST_ROWS],
        "cases_left_out": max(len(judged.ranked) - _MOST_ROWS, 0),
        "gallery": _gallery(contents, judged),
        "curves": _curves(contents),
        "optimism": _optimism(contents, judged),
        "parts": _parts(contents),
        "leaks": _leaks(contents),
        "settings": _settings(contents),
        "environment": _environment(contents.environment),
        "commands": _commands(contents, run),
        "glossary": [metric for metric in judged.summed if metric.meaning],
    }


def _confidence(contents: RunContents) -> str:
    share = contents.settings.get("evaluate", {}).get("confidence", 0.95)
    return f"{100 * share:g} %" if isinstance(share, (int, float)) else "95 %"


def _headline(judged: Judged) -> list[dict[str, Any]]:
    """The first metric of the page by class, with bars on one scale; a single class stands for the mean over it."""
    if judged.headline is None:
        return []
    name = judged.headline.name
    classes = judged.summary_classes([judged.headline])
    rows = [row for label in classes if (row := judged.summary(label, name)) is not None]
    over_classes = [row for row in rows if row.class_name == OVER_CLASSES]
    single = [row for row in rows if row not in over_classes]
    rows = single if len(single) == 1 else over_classes + (single if len(rows) <= _MOST_CARDS else [])
    over = _OVER if single else _OVERALL
    ends = [value for row in rows for value in (row.low, row.high, row.mean) if math.isfinite(value)]
    if not ends:
        return []
    margin = (max(ends) - min(ends)) * 0.25 or 0.01
    bounds = (min(ends) - margin, max(ends) + margin)
    return [
        {
            "class_name": over if row.class_name == OVER_CLASSES else row.class_name,
            "summary": row,
            "bar": interval_bar(row.mean, row.low, row.high, bounds),
        }
        for row in rows
    ]


def _results(judged: Judged, confidence: str) -> list[dict[str, Any]]:
    """Tables of means: of single cases, and of what only all cases together have."""
    told = [
        (judged.of_cases(), f"Mean over cases, with the {confidence} interval"),
        (judged.of_the_set(), f"All cases together, with the {confidence} interval over groups"),
    ]
    return [
        {"caption": caption} | _table(judged, metrics)
        for together, caption in told
        for metrics in _with_same_classes(judged, together)
    ]


def _with_same_classes(judged: Judged, metrics: Sequence[Metric]) -> list[list[Metric]]:
    """Metrics that have numbers for the same classes, so that no table is half empty."""
    alike: dict[tuple[str, ...], list[Metric]] = {}
    for metric in metrics:
        alike.setdefault(tuple(judged.summary_classes([metric])), []).append(metric)
    return list(alike.values())


def _table(judged: Judged, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Whatever there is more of, classes or metrics, goes down the page."""
    classes = judged.summary_classes(metrics)
    over = _OVER if len(classes) > 1 else _OVERALL
    cells = [[judged.summary(class_name, metric.name) for metric in metrics] for class_name in classes]
    names = [over if name == OVER_CLASSES else name for name in classes]
    labels = [f"{metric.label} ({metric.unit})" if metric.unit else metric.label for metric in metrics]
    if len(labels) > max(4, len(names)):
        cells = [list(row) for row in zip(*cells, strict=True)]
        return {"corner": "Metric", "columns": names, "rows": list(zip(labels, cells, strict=True)), "over": ""}
    return {"corner": "Class", "columns": labels, "rows": list(zip(names, cells, strict=True)), "over": over}


def _axis(metric: Any) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    better = f", {metric.better} is better" if metric.better else ""
    return f"{metric.label}{unit}{better}"


def _gallery(contents: RunContents, judged: Judged) -> list[dict[str, Any]]:
    """Cases with pictures, in the order worst to best, and pictures of no case at the end."""
    pictures = contents.pictures[:_MOST_PICTURES]
    embedded = embed_pictures([picture.file for picture in pictures])
    by_case: dict[str, list[Picture]] = {}
    for picture in pictures:
        if picture.file in embedded:
            by_case.setdefault(picture.case_id, []).append(picture)
    ranks = {case.case_id: rank for rank, case in enumerate(judged.ranked, start=1)}
    ordered = sorted(by_case, key=lambda case_id: ranks.get(case_id, math.inf))
    return [
        {
            "case_id": case_id,
            "anchor": f"{anchor(case_id)}-pictures" if case_id else "",
            "standing": _standing(ranks.get(case_id), len(ranks)),
            "scores": judged.scores(case_id),
            "pictures": [(picture, embedded[picture.file]) for picture in by_case[case_id]],
        }
        for case_id in ordered
    ]


def _standing(rank: int | None, count: int) -> str:
    if rank is None:
        return ""
    if rank <= count / 2:
        return "worst case" if rank == 1 else f"{_ordinal(rank)} worst of {count}"
    best = count - rank + 1
    return "best case" if best == 1 else f"{_ordinal(best)} best of {count}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _optimism(contents: RunContents, judged: Judged) -> list[dict[str, Any]]:
    """What the validation part said in the epoch that it chose, beside the test part: `label, validation, test, gap`.

    The gap is above zero where the validation part looked better than the test part turned out.
    """
    best = contents.status.get("best_epoch")
    if contents.part != "test" or not isinstance(contents.status.get("best_score"), (int, float)):
        return []
    chosen = next((row for row in contents.history if row.get("epoch") == best), {})
    rows = []
    for metric in judged.summed:
        said = chosen.get(f"validation/{metric.name}")
        found = judged.summary(OVER_CLASSES, metric.name)
        if said is None or found is None or not metric.better or not math.isfinite(found.mean):
            continue
        gap = said - found.mean if metric.better == "higher" else found.mean - said
        rows.append({"label": metric.label, "validation": said, "test": found.mean, "gap": gap})
    return rows


def _curves(contents: RunContents) -> list[tuple[str, Any]]:
    history = contents.history
    if not history:
        return []
    names = list(dict.fromkeys(name for row in history for name in row))
    losses = [name for name in names if name.startswith("train/") and "learning_rate" not in name]
    best = contents.status.get("best_epoch")
    marker = (float(best), f"best epoch {best}") if isinstance(best, int) and best > 0 else None
    charts: list[tuple[str, list[Line], tuple[float, str] | None]] = [
        ("Loss in training", _lines(history, losses, lead="train/loss", strip="train/"), None)
    ]
    metrics = list(dict.fromkeys(name.split("/")[1] for name in names if name.startswith("validation/")))
    judged = [metric for metric in metrics if describe_metric(metric, contents.metrics.get(metric)).better]
    for metric in judged or metrics:
        own = [name for name in names if name.split("/")[:2] == ["validation", metric]]
        if len(own) == 2:  # one class, which is its own mean
            own = own[:1]
        label = describe_metric(metric, contents.metrics.get(metric)).label
        lines = _lines(history, own, lead=f"validation/{metric}", strip=f"validation/{metric}/", lead_name="mean")
        charts.append((f"{label} on the validation part", lines, marker))
    if "lr" in names:
        charts.append(("Learning rate", _lines(history, ["lr"], lead="lr", strip=""), None))
    return [
        (title, chart)
        for title, lines, mark in charts
        if (chart := line_chart(title, lines, x_label="epoch", marker=mark))
    ]


def _lines(
    history: list[dict[str, float]], names: list[str], *, lead: str, strip: str, lead_name: str = ""
) -> list[Line]:
    ordered = sorted(names, key=lambda name: name != lead)
    return [
        Line(
            lead_name if name == lead and lead_name else name.removeprefix(strip),
            [(row.get("epoch", index + 1.0), row[name]) for index, row in enumerate(history) if name in row],
            faint=name != lead and len(ordered) > 1,
        )
        for name in ordered
    ]


def _parts(contents: RunContents) -> list[dict[str, Any]]:
    """Cases and groups of each part, counted from the table of cases."""
    cases = Counter(row.get("split", "") for row in contents.cases)
    groups: dict[str, set[str]] = {}
    for row in contents.cases:
        groups.setdefault(row.get("split", ""), set()).add(row.get("group", ""))
    if contents.folds:
        return [
            {"part": "test, in one fold each", "cases": cases.total(), "groups": len(groups.get("", ())), "strata": {}}
        ]
    counted = contents.splits.get("cases", {}) if not contents.cases else {}
    strata = contents.splits.get("strata", {})
    return [
        {
            "part": part,
            "cases": cases.get(part, 0) or counted.get(part, 0),
            "groups": len(groups.get(part, ())) or contents.splits.get("groups", {}).get(part, 0),
            "strata": strata.get(part, {}) if isinstance(strata, Mapping) else {},
        }
        for part in _PARTS
    ]


def _leaks(contents: RunContents) -> dict[str, Any]:
    """Whether any group stands in two parts: looked up in the table of cases, not taken on trust."""
    where: dict[str, set[str]] = {}
    for row in contents.cases:
        if row.get("split"):
            where.setdefault(row.get("group", ""), set()).add(row["split"])
    return {"checked": bool(where), "groups": len(where), "leaks": sum(len(parts) > 1 for parts in where.values())}


def _settings(contents: RunContents) -> list[tuple[str, str, str]]:
    """`(key, value, where it came from)` of the resolved configuration."""
    rows: list[tuple[str, str, str]] = []

    def walk(value: Any, prefix: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, entry in value.items():
                walk(entry, f"{prefix}.{key}" if prefix else str(key))
        else:
            rows.append((prefix, "" if value is None else str(value), str(contents.provenance.get(prefix, ""))))

    walk(contents.settings, "")
    return rows


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(value)) for key, value in environment.items() if not isinstance(value, Mapping) and value != ""]
    packages = environment.get("packages", {})
    if isinstance(packages, Mapping) and packages:
        rows.append(("packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
    return [(key.replace("_", " "), value) for key, value in rows]


def _commands(contents: RunContents, run: RunFolder) -> list[str]:
    """What to type to run it again."""
    folder = run.root.absolute()
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else Path(*folder.parts[-2:])
    commands = []
    commit = str(contents.environment.get("commit", ""))
    if commit:
        commands.append(f"git checkout {commit.removesuffix('-dirty')}")
    commands.append(f"pulvinar run {shlex.quote((shown / 'config.yaml').as_posix())}")
    return commands


def _number(value: float, digits: int = 3) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.1f}"
    return text.replace("-", "−")


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
