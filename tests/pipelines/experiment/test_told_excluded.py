"""What is told of cases that were set aside: each problem by name, what a data set leaves out by number."""

from __future__ import annotations

from pipelines.cases import Excluded
from pipelines.experiment.preparation import told_excluded


def test_problems_are_named_and_what_the_set_leaves_out_is_counted() -> None:
    junk = [Excluded(f"junk{number}", "junk", expected=True) for number in range(3819)]
    broken = [Excluded(f"scan{number}", "damaged", "Copy it again.") for number in range(22)]
    told = told_excluded([*junk, *broken])
    assert told[0] == "set aside scan0: damaged. Copy it again."
    assert len(told) == 22
    assert told[-2].startswith("set aside 2 more")
    assert told[-1] == "left out 3,819: junk"
    assert told_excluded([]) == []
