"""Two results on the same cases: the paired difference, how sure it is, and how likely it is by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.errors import DataError
from pipelines.evaluation.rows import MEAN, read_rows, to_grid

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.runs import RunFolder

__all__ = ["compare_runs", "compare_tables"]


def compare_runs(
    runs: Sequence[RunFolder],
    *,
    common_only: bool = False,
    resamples: int = 2000,
    confidence: float = 0.95,
    permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares runs with the first of them, on the part that all were judged on (test before validation).

    Args:
        runs: Two run folders or more.
        common_only: Compare on the cases that both runs have, where they differ.
        resamples: Bootstrap resamples of the groups.
        confidence: Coverage of the intervals.
        permutations: Random sign patterns for p.
        seed: Seed of both.

    Returns:
        The columns of `compare_tables`, after `run` and `against`, the names of the folders (`hippocampus/001`).

    Raises:
        DataError: A run was not judged, or runs were judged on other cases.
    """
    import pandas as pd

    if len(runs) < 2:
        raise DataError("a comparison needs two runs or more", hint="Name the reference run first.")
    for part in ("test", "validation"):
        if all((run.evaluation / f"{part}.cases.csv").is_file() for run in runs):
            break
    else:
        lacking = [_name(run) for run in runs if not list(run.evaluation.glob("*.cases.csv"))]
        raise DataError(
            f"not judged yet: {', '.join(lacking)}" if lacking else "the runs were judged on different parts",
            hint="`pulvinar run WORKFLOW --resume` finishes a run.",
        )
    tables = [read_rows(run.evaluation / f"{part}.cases.csv") for run in runs]
    compared = []
    for run, table in zip(runs[1:], tables[1:], strict=True):
        names = (_name(runs[0]), _name(run))
        difference = compare_tables(
            tables[0],
            table,
            names=names,
            common_only=common_only,
            resamples=resamples,
            confidence=confidence,
            permutations=permutations,
            seed=seed,
        )
        difference.insert(0, "run", names[1])
        difference.insert(1, "against", names[0])
        compared.append(difference)
    return pd.concat(compared, ignore_index=True)


def _name(run: RunFolder) -> str:
    """A number alone says nothing where workflows are compared."""
    folder = run.root.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.isdecimal() else folder.name


def compare_tables(
    reference: pd.DataFrame,
    other: pd.DataFrame,
    *,
    names: tuple[str, str] = ("the reference", "the other"),
    common_only: bool = False,
    resamples: int = 2000,
    confidence: float = 0.95,
    permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences (other minus reference) of every class and metric that both have, and over classes (class `mean`).

    A pair counts where both values are defined. Intervals are percentiles in resamples of the groups; p is that of a
    two-sided test that flips the sign of whole groups (all patterns up to 13 groups, else random ones). p is of one
    comparison: it is not corrected for how many classes, metrics and runs are looked at.

    Returns:
        `class, metric, reference, other, difference, low, high, p, cases, groups, unpaired, left_out`: the means are
        over the pairs, `unpaired` counts cases that are undefined in only one of the two, `left_out` cases that only
        one has.

    Raises:
        DataError: They hold different cases and `common_only` is False; the groups of a case differ; nothing is common.
    """
    import numpy as np
    import pandas as pd

    from pipelines.evaluation.bootstrap import GroupSums, percentile_interval, resampled_means, sign_flip_p, with_means

    first, second, left_out = _common(reference, other, names, common_only)
    one, two = to_grid(first), to_grid(second)
    columns = [pair for pair in one.columns if pair in set(two.columns)]
    if not columns:
        raise DataError(f"{names[0]} and {names[1]} have no class and metric in common")
    before = one.values[:, [one.columns.index(pair) for pair in columns]]
    after = two.values[:, [two.columns.index(pair) for pair in columns]]
    difference = after - before
    paired = ~np.isnan(difference)
    sums = GroupSums(difference, one.groups)
    over = _over_classes(columns)
    sets = list(over.values())
    draws = resampled_means(sums, resamples=resamples, seed=seed)
    low, high = percentile_interval(with_means(draws, sets), confidence)
    count = sums.counts.sum(axis=0)
    shares = np.divide(sums.sums, count, out=np.full(sums.sums.shape, np.nan), where=count > 0)
    shares = with_means(shares, sets)
    p = sign_flip_p(np.nan_to_num(shares), permutations=permutations, seed=seed)
    means = {
        name: with_means(GroupSums(np.where(paired, values, np.nan), one.groups).means[None], sets)[0]
        for name, values in (("reference", before), ("other", after), ("difference", difference))
    }
    members = [*([at] for at in range(len(columns))), *sets]
    records = []
    for index, (pair, own) in enumerate(zip([*columns, *((MEAN, name) for name in over)], members, strict=True)):
        used = paired[:, own].any(axis=1)
        groups = len(set(one.groups[used]))
        sure = groups > 1
        records.append(
            {
                "class": pair[0],
                "metric": pair[1],
                **{name: values[index] for name, values in means.items()},
                "low": low[index] if sure else np.nan,
                "high": high[index] if sure else np.nan,
                "p": p[index] if sure else np.nan,
                "cases": int(used.sum()),
                "groups": groups,
                "unpaired": int((np.isnan(before) != np.isnan(after))[:, own].any(axis=1).sum()),
                "left_out": left_out,
            }
        )
    return pd.DataFrame(records)


def _common(
    reference: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str], common_only: bool
) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    ours, theirs = set(reference["case_id"]), set(other["case_id"])
    shared = ours & theirs
    if not shared:
        raise DataError(f"{names[0]} and {names[1]} have no case in common")
    if ours != theirs and not common_only:
        raise DataError(
            f"{names[0]} and {names[1]} were judged on different cases: {len(shared)} in common, "
            f"{len(ours - theirs)} only in {names[0]}{_examples(ours - theirs)}, "
            f"{len(theirs - ours)} only in {names[1]}{_examples(theirs - ours)}",
            hint="Run both with the same data, split and seed; or compare on the common cases alone (--common).",
        )
    first = reference[reference["case_id"].isin(shared)]
    second = other[other["case_id"].isin(shared)]
    group_of = dict(zip(first["case_id"], first["group"], strict=True))
    moved = sorted(
        {
            case_id
            for case_id, group in zip(second["case_id"], second["group"], strict=True)
            if group_of[case_id] != group
        }
    )
    if moved:
        raise DataError(f"{len(moved)} cases are of different groups in the two runs{_examples(set(moved))}")
    return first, second, len(ours ^ theirs)


def _over_classes(columns: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    names = dict.fromkeys(metric for _, metric in columns)
    return {name: [at for at, (_, metric) in enumerate(columns) if metric == name] for name in names}


def _examples(case_ids: set[str]) -> str:
    return f" ({', '.join(sorted(case_ids)[:3])}{', …' if len(case_ids) > 3 else ''})" if case_ids else ""
