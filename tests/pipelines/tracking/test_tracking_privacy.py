"""No folder, user or machine is named in what leaves it, and what is no folder stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tracking.privacy import Scrubber, pseudonyms


@pytest.fixture
def scrubber(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scrubber:
    monkeypatch.setenv("PULVINAR_DATA", "/ward/archive")
    monkeypatch.setattr("socket.gethostname", lambda: "radiology7.clinic.example")
    return Scrubber(tmp_path / "runs" / "r1", tmp_path / "runs")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/ward/archive/knee/a.nii", "${env:PULVINAR_DATA}/knee/a.nii", id="data folder"),
        pytest.param("/mnt/ward7/export/scan.nii.gz", "…/scan.nii.gz", id="other folder"),
        pytest.param("a: /mnt/w/b.nii, c", "a: …/b.nii, c", id="inside a sentence"),
        pytest.param("open('/mnt/My Scans/Doe John/c.nii')", "open('…/c.nii')", id="quoted, with blanks"),
        pytest.param("file:///mnt/x/y.nii", "…/y.nii", id="file address"),
        pytest.param("sqlite:////srv/lab/m.db", "sqlite:///…/m.db", id="database file"),
        pytest.param("C:\\Users\\ann\\a.nii", "…/a.nii", id="Windows"),
        pytest.param("\\\\server\\share\\a.nii", "…/a.nii", id="Windows share"),
        pytest.param("/home/ann", "~", id="someone's home"),
        pytest.param("postgresql://ann:pw@h/db", "postgresql://***@h/db", id="password"),
        pytest.param("on radiology7 and radiology7.clinic.example", "on … and …", id="machine"),
    ],
)
def test_what_names_a_place_is_replaced(scrubber: Scrubber, text: str, expected: str) -> None:
    assert scrubber.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "train/loss",
        "3/4",
        "mm/s and/or",
        "https://a.example/b/c?d=/e",
        "s3://bucket/key/a",
        "1e-4",
        "~/x/y",
        "</td></tr>",
    ],
)
def test_what_names_no_place_stays(scrubber: Scrubber, text: str) -> None:
    assert scrubber.text(text) == text


def test_folders_of_the_run_are_told_from_it(scrubber: Scrubber, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert scrubber.text(f"{runs}/r1/model") == "r1/model"
    assert scrubber.text(f"{runs}/r10/model") == "runs/r10/model"


def test_values_are_cleaned_to_any_depth(scrubber: Scrubber) -> None:
    assert scrubber.value({"a": [Path("/mnt/x/y"), {"/mnt/p/q": 1}], "b": 2.5}) == {"a": ["…/y", {"…/q": 1}], "b": 2.5}


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8), min_size=2, max_size=6))
def test_no_parent_of_a_path_is_ever_left(parts: list[str]) -> None:
    parts = [f"{part}Q{index}" for index, part in enumerate(parts)]
    cleaned = Scrubber().text("see /" + "/".join(parts) + " there")
    assert cleaned == f"see …/{parts[-1]} there"


def test_groups_become_numbers_in_order_of_appearance() -> None:
    assert pseudonyms(["Doe^John", "Roe", "Doe^John"]) == {"Doe^John": "group-0001", "Roe": "group-0002"}
