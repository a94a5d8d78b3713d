"""From a workflow to checked, divided cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipelines.cases import Case, CaseTable, Excluded
from pipelines.errors import CaseError, DataError
from pipelines.splits import draw_splits
from pipelines.task import Task

__all__ = ["PreparedCases", "check_cases", "prepare_cases", "told_excluded"]

_MOST_TOLD = 20


@dataclass(frozen=True)
class PreparedCases:
    """Cases that can be used, each with its part, and the ones that cannot."""

    table: CaseTable
    record: dict[str, Any]
    facts: dict[str, dict[str, Any]]
    excluded: tuple[Excluded, ...]

    def part(self, split: str) -> tuple[Case, ...]:
        """The cases of `train`, `validation` or `test`."""
        return self.table.part(split)


def check_cases(
    task: Task, cases: Sequence[Case], *, advance: Callable[[], None] = lambda: None, threads: int = 4
) -> tuple[dict[str, dict[str, Any]], list[Excluded]]:
    """Opens every case once: its facts, or the reason why it cannot be used."""

    def check(case: Case) -> dict[str, Any] | Excluded:
        try:
            return task.check_case(case)
        except CaseError as error:
            return Excluded(case.case_id, error.reason, error.hint)
        finally:
            advance()

    with ThreadPoolExecutor(max_workers=threads) as pool:
        outcomes = list(pool.map(check, cases))
    facts = {case.case_id: out for case, out in zip(cases, outcomes, strict=True) if not isinstance(out, Excluded)}
    return facts, [out for out in outcomes if isinstance(out, Excluded)]


def prepare_cases(task: Task, *, advance: Callable[[], None] = lambda: None) -> PreparedCases:
    """Reads, checks and divides the cases of a task.

    Raises:
        DataError: No case can be used, or the rest cannot be divided as asked.
    """
    table = task.read_cases()
    facts, refused = check_cases(task, table.cases, advance=advance)
    excluded = [*table.excluded, *refused]
    if not facts:
        raise DataError(
            f"none of the {len(table)} cases can be used; the first: {excluded[0].case_id}: {excluded[0].reason}"
            if excluded
            else "the data set has no cases",
            hint="`pulvinar validate` lists every case and what is wrong with it.",
        )
    usable = table.without(item.case_id for item in refused)
    divided, record = draw_splits(usable, task.config.split, task.config.seed)
    return PreparedCases(divided, record, facts, tuple(excluded))


def told_excluded(excluded: Sequence[Excluded]) -> list[str]:
    """Lines about cases that were set aside: the first ones by name, those that the data set leaves out by number."""
    problems = [item for item in excluded if not item.expected]
    lines = [f"set aside {item.case_id}: {item.reason}. {item.hint}" for item in problems[:_MOST_TOLD]]
    if len(problems) > _MOST_TOLD:
        lines.append(f"set aside {len(problems) - _MOST_TOLD:,} more; excluded.csv and `pulvinar validate` list them")
    by_rule = Counter(item.reason for item in excluded if item.expected)
    return lines + [f"left out {count:,}: {reason}" for reason, count in sorted(by_rule.items())]
