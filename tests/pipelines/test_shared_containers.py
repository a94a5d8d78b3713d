"""A file that holds many cases is not a leak; the same image in two parts is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cases import Case, CaseTable
from pipelines.errors import SplitLeakError
from pipelines.splits import check_leaks


@pytest.mark.parametrize(("role", "leaks"), [("container", False), ("image", True)])
def test_a_container_may_be_shared_by_parts(tmp_path: Path, role: str, leaks: bool) -> None:
    file = tmp_path / "bags.npz"
    file.write_bytes(b"many cases")
    cases = tuple(Case(name, name, {role: file}, split=part) for name, part in (("a", "train"), ("b", "test")))
    table = CaseTable(cases, tmp_path, "bags")
    if leaks:
        with pytest.raises(SplitLeakError, match="byte for byte"):
            check_leaks(table)
    else:
        assert check_leaks(table) == []
