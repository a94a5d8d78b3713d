"""What metrics are called in reports."""

from __future__ import annotations

from pipelines.reporting.glossary import describe_metric


def test_a_run_says_what_its_metrics_are_called() -> None:
    told = {"label": "C-index", "better": "higher", "unit": "", "summary": "pairs in the right order"}
    metric = describe_metric("c_index", told)
    assert (metric.label, metric.better, metric.meaning) == ("C-index", "higher", "pairs in the right order")


def test_runs_that_name_no_label_have_what_is_known_or_the_name() -> None:
    assert describe_metric("hd95", {"better": "lower", "unit": "mm", "summary": ""}).label == "HD95"
    assert describe_metric("hd95", {"label": "", "unit": "mm"}).label == "HD95"
    assert describe_metric("balanced_accuracy", {"better": "neither"}).label == "Balanced accuracy"
    assert describe_metric("balanced_accuracy", {"better": "neither"}).better == ""
