"""From judgements of single cases to what can be said of a model: means, confidence intervals, comparisons."""

from pipelines.evaluation.comparison import compare_runs, compare_tables
from pipelines.evaluation.metric import Metric
from pipelines.evaluation.pooled import pooled_means, summarise_pooled
from pipelines.evaluation.rows import MEAN, complete_rows, read_rows
from pipelines.evaluation.settings import EvaluationSettings
from pipelines.evaluation.summary import rank_cases, summarise, worst_cases

__all__ = [
    "MEAN",
    "EvaluationSettings",
    "Metric",
    "compare_runs",
    "compare_tables",
    "complete_rows",
    "pooled_means",
    "rank_cases",
    "read_rows",
    "summarise",
    "summarise_pooled",
    "worst_cases",
]
