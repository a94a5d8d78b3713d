"""What the runs of a cross-validation left in their folders, put together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.cases import Case
from pipelines.evaluation import pooled_means, read_rows
from pipelines.runs import RunFolder
from pipelines.task import Observation, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Fold", "FoldResults"]


@dataclass(frozen=True)
class Fold:
    """One fold of one repeat, and its run folder."""

    repeat: int
    number: int
    run: RunFolder


@dataclass(frozen=True)
class FoldResults:
    """What the folds left in their folders.

    Attributes:
        cases: Case id → case, of every case that was in a test part.
        rows: The long table, each case's mean over the repeats.
        by_fold: `repeat, fold, class, metric, value, cases`.
        predictions: What was observed, with `repeat` and `fold`; empty where the task observes nothing.
        parts: `(repeat, fold)` → its test cases and what was observed of them.
    """

    cases: Mapping[str, Case]
    rows: pd.DataFrame
    by_fold: pd.DataFrame
    predictions: pd.DataFrame
    parts: Mapping[tuple[int, int], tuple[frozenset[str], Mapping[str, Observation]]]

    @classmethod
    def read(cls, folds: Sequence[Fold], known: Mapping[str, Case]) -> FoldResults:
        import pandas as pd

        tables, summaries, predictions, parts = [], [], [], {}
        for fold in folds:
            where = {"repeat": fold.repeat, "fold": fold.number}
            tables.append(read_rows(fold.run.evaluation / "test.cases.csv"))
            summary = pd.read_csv(fold.run.evaluation / "test.summary.csv", keep_default_na=False, na_values=[""])
            kept = summary[["class", "metric", "mean", "cases"]].rename(columns={"mean": "value"})
            summaries.append(kept.assign(**where)[["repeat", "fold", "class", "metric", "value", "cases"]])
            observed: dict[str, Observation] = {}
            file = fold.run.evaluation / "test.predictions.csv"
            if file.is_file():
                table = pd.read_csv(file, dtype={"case_id": str, "group": str}, keep_default_na=False, na_values=[""])
                predictions.append(table.assign(**where))
                columns = [name for name in table.columns if name not in ("case_id", "group")]
                observed = {
                    case_id: {str(name): value for name, value in record.items()}
                    for case_id, record in zip(table["case_id"], table[columns].to_dict("records"), strict=True)
                }
            ids = json.loads(fold.run.splits.read_text())["parts"]["test"]
            parts[fold.repeat, fold.number] = (frozenset(ids), observed)
        seen = sorted({case_id for ids, _ in parts.values() for case_id in ids})
        return cls(
            cases={case_id: known[case_id] for case_id in seen},
            rows=_mean_over_repeats(pd.concat(tables, ignore_index=True)),
            by_fold=pd.concat(summaries, ignore_index=True),
            predictions=pd.concat(predictions, ignore_index=True) if predictions else pd.DataFrame(),
            parts=parts,
        )

    @property
    def first_observed(self) -> dict[str, Observation]:
        """What was observed in the first repeat."""
        return {
            name: seen
            for (repeat, _), (_, observed) in self.parts.items()
            if not repeat
            for name, seen in observed.items()
        }

    @property
    def first_cases(self) -> list[Case]:
        """The cases of the first repeat."""
        ids = {case_id for (repeat, _), (own, _) in self.parts.items() if not repeat for case_id in own}
        return [case for case_id, case in self.cases.items() if case_id in ids]

    def pooled(self, task: Task, drawn: Sequence[Case]) -> dict[tuple[str, str], float]:
        """The numbers of the whole set: of each repeat, or of each fold where models cannot be compared; the mean."""
        values: dict[tuple[str, str], list[float]] = {}
        if self.predictions.empty:
            return {}
        for ids, observed in self._sets(task.pools_folds):
            chosen = [case for case in drawn if case.case_id in ids]
            if chosen:  # A fold whose every prediction failed counts, and badly.
                for key, value in pooled_means(task.pooled(chosen, observed)).items():
                    values.setdefault(key, []).append(value)
        return {key: _mean([number for number in numbers if number == number]) for key, numbers in values.items()}

    def _sets(self, pools: bool) -> Iterator[tuple[frozenset[str], Mapping[str, Observation]]]:
        if not pools:
            yield from self.parts.values()
            return
        for repeat in sorted({repeat for repeat, _ in self.parts}):
            own = [part for (number, _), part in self.parts.items() if number == repeat]
            merged = {name: seen for _, observed in own for name, seen in observed.items()}
            yield frozenset().union(*(ids for ids, _ in own)), merged


def _mean_over_repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each case, class and metric. A repeat in which it is undefined is left out; notes are joined."""
    keys = ["case_id", "group", "class", "metric"]
    together = rows.groupby(keys, sort=False, as_index=False).agg(value=("value", "mean"), note=("note", _joined))
    return together[[*keys, "value", "note"]]


def _joined(notes: Iterable[str]) -> str:
    """Each note once, a failure first: whoever counts failures looks at the beginning."""
    return "; ".join(sorted({note for note in notes if note}, key=lambda note: (not note.startswith("failed"), note)))


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")
