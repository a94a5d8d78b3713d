"""How one prediction is judged and drawn, always on the grid of the scan and against the reference file."""

from __future__ import annotations

from collections.abc import Mapping

from domains.medical.scans.preview import preview
from domains.medical.segmentation.classes import Classes
from domains.medical.segmentation.metrics import metric_rows, segmentation_metrics
from domains.medical.segmentation.predictor import Segmentation
from domains.medical.segmentation.reading import index_labels, read_label, read_mask, read_reference
from pipelines.cases import Case
from pipelines.task import Figure, MetricRow

__all__ = ["draw_case", "judge_case"]


def judge_case(
    case: Case, result: Segmentation | None, classes: Classes, *, tolerance: float | Mapping[str, float]
) -> list[MetricRow]:
    """Compares a prediction with the reference file.

    Args:
        case: Its `label` is the reference; its `mask`, where it has one, is where it is judged.
        result: The prediction; none is a prediction that failed, and takes the worst value of each metric.
        classes: Classes.
        tolerance: Distance in mm within which surfaces agree, for all classes or by name.

    Raises:
        CaseError: The reference cannot be read, or lies on another grid than the scan.
    """
    if result is None:
        grid = read_label(case)
        reference, prediction = index_labels(case.case_id, grid, classes), None
    else:
        grid, prediction = result.scan, result.labels
        reference = read_reference(case, grid, classes)
    judged = segmentation_metrics(
        prediction,
        reference,
        grid.spacing,
        classes={name: number for number, name in enumerate(classes.names, 1)},
        tolerance=tolerance,
        region=read_mask(case, grid),
    )
    return metric_rows(case.case_id, judged)


def draw_case(case: Case, result: Segmentation, classes: Classes) -> list[Figure]:
    """One picture: the prediction filled, the reference outlined. Raises `CaseError` as `judge_case` does."""
    reference = read_reference(case, result.scan, classes)
    image = preview(result.scan, result.labels, classes.names, reference=reference, title=case.case_id)
    how = "Prediction and reference" if result.scan.is_2d else "Prediction (filled) and reference (outline)"
    return [Figure(case.case_id, image, f"{how} of {', '.join(classes.names)}.", case_id=case.case_id)]
