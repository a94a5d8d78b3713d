"""Cases from tables that users write, and cases written as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.cases import Case, CaseTable
from pipelines.casetables import TableData, read_table, write_cases
from pipelines.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii", "b.nii", "c.nii", "sub/größe.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def write(folder: Path, text: str, name: str = "cases.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def read(path: Path, **options: Any) -> CaseTable:
    return read_table(TableData(file=path, **options))


def test_reads_files_groups_parts_and_labels(folder: Path) -> None:
    text = (
        "case_id,group,split,site,age,image,label\n"
        "001,p1,train,Ulm,61,a.nii,b.nii\n002,,TESTING,,7.5,sub/größe.nii,c.nii\n"
    )
    one, two = read(write(folder, text))
    assert one == Case(
        "001", "p1", {"image": folder / "a.nii", "label": folder / "b.nii"}, {"site": "Ulm", "age": 61.0}, "train"
    )
    assert (two.group, two.split, two.labels) == ("002", "test", {"site": None, "age": 7.5})
    assert two.paths["image"] == folder / "sub/größe.nii"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        pytest.param("case_id;image\r\nx;a.nii\r\n\r\ny;b.nii\r\n", "utf-8-sig", id="saved by a spreadsheet"),
        pytest.param("case_id\timage\nx\ta.nii\ny\tb.nii", "utf-8", id="tabs, no last line end"),
        pytest.param('case_id , image\n"x", a.nii\n"y",b.nii\n', "utf-8", id="quotes and spaces"),
    ],
)
def test_reads_what_spreadsheets_write(folder: Path, text: str, encoding: str) -> None:
    cases = read(write(folder, text, encoding=encoding))
    assert [(case.case_id, case.paths["image"].name) for case in cases] == [("x", "a.nii"), ("y", "b.nii")]


def test_reads_parquet_with_its_types(folder: Path) -> None:
    frame = pd.DataFrame({"case_id": [1, 2], "score": [0.5, None], "image": ["a.nii", "b.nii"]})
    frame.to_parquet(folder / "cases.parquet")
    one, two = read(folder / "cases.parquet")
    assert (one.case_id, one.labels, two.labels) == ("1", {"score": 0.5}, {"score": None})


def test_channels_and_roles_by_the_names_of_columns(folder: Path) -> None:
    (case,) = read(write(folder, "case_id,image_1,image_0,label\nx,b.nii,a.nii,c.nii\n"))
    assert [path.name for path in case.files("image")] == ["a.nii", "b.nii"]
    assert case.files("label") == (folder / "c.nii",)
    assert case.files("mask") == ()


def test_columns_by_other_names_and_paths_made_from_columns(folder: Path) -> None:
    path = write(folder, "subject,stem,clinic,note\nx,a,U,hello\ny,b,V,bye\n")
    cases = read(path, case_id="subject", group="clinic", paths={"image": "{stem}.nii"}, labels=["note"])
    assert [(case.group, case.paths["image"].name, case.labels) for case in cases] == [
        ("U", "a.nii", {"note": "hello"}),
        ("V", "b.nii", {"note": "bye"}),
    ]


def test_groups_by_a_pattern_of_the_case_id(folder: Path) -> None:
    path = write(folder, "case_id,image\np01_v1,a.nii\np01_v2,b.nii\n")
    assert {case.group for case in read(path, group_pattern=r"(p\d+)_")} == {"p01"}
    assert [case.group for case in read(path, group_pattern=r"v\d")] == ["v1", "v2"]
    with pytest.raises(DataError, match=r"line 2: group_pattern 'x\(\.\)' finds nothing in 'p01_v1'"):
        read(path, group_pattern="x(.)")


def test_a_case_without_a_label_is_set_aside(folder: Path) -> None:
    table = read(write(folder, "case_id,image,label\nx,a.nii,\ny,b.nii,c.nii\n"))
    assert [case.case_id for case in table] == ["y"]
    assert [(item.case_id, item.reason) for item in table.excluded] == [("x", "no label")]
    with pytest.raises(DataError, match="no case can be used; 1 have no label"):
        read(write(folder, "case_id,image,label\nx,a.nii,\n"))


def test_every_problem_is_reported_at_once_with_its_line(folder: Path) -> None:
    text = (
        "case_id,split,image\nx,train,a.nii\n,train,a.nii\nx,train,b.nii\n../up,train,a.nii\n"
        "y,dev,a.nii\nz,test,gone.nii\nw,test,\n"
    )
    with pytest.raises(DataError) as caught:
        read(write(folder, text))
    lines = str(caught.value).splitlines()
    assert lines[0] == "cases.csv: 6 problems"
    for line, expected in zip(
        lines[1:7],
        (
            "line 3: empty case_id",
            "line 4: case_id 'x' stands in line 2 already",
            "line 5: case_id '../up' has '/'",
            "line 6: unknown part 'dev'; use train, validation or test",
            "line 7: no file 'gone.nii' (image)",
            "line 8: no image named",
        ),
        strict=True,
    ):
        assert line.strip().startswith(expected)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        pytest.param("id,image\nx,a.nii\n", {}, "no column 'case_id'", id="no identifier"),
        pytest.param("case_id,file\nx,a.nii\n", {}, "no column of files", id="no files"),
        pytest.param("case_id,gruop,image\nx,1,a.nii\n", {}, "unknown column 'gruop'; did you mean 'group'", id="typo"),
        pytest.param("case_id,image,image\nx,a.nii,b.nii\n", {}, "'image' stands twice", id="a column twice"),
        pytest.param("case_id,,image\nx,1,a.nii\n", {}, "column 2 has no name", id="a column without a name"),
        pytest.param("case_id,image\nx,a.nii\n", {"group": "patient"}, "no column 'patient'", id="no group column"),
        pytest.param("case_id,image\nx,a.nii\n", {"labels": ["site"]}, "no column 'site'", id="no label column"),
        pytest.param("case_id,image\nx,a.nii\n", {"paths": {"image": "imag"}}, "mean 'image'", id="no path column"),
        pytest.param("case_id,image\nx,a.nii,extra\ny\n", {}, "line 2: 3 cells, the header has 2", id="ragged"),
        pytest.param("case_id,image\n", {}, "the table has no rows", id="only a header"),
        pytest.param("", {}, "no column 'case_id'", id="empty"),
    ],
)
def test_a_table_that_does_not_fit_is_explained(folder: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(folder, text), **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("cases.csv", b"case_id,image\n\xff\xfe\x00,a.nii\n", "not UTF-8", id="not text"),
        pytest.param("cases.csv", b"case_id,image\n" + b"x" * 200_000 + b",a.nii\n", "field larger", id="a huge cell"),
        pytest.param("cases.parquet", b"PAR1 no more", "Parquet", id="a broken Parquet file"),
        pytest.param("cases.xlsx", b"PK", "use .csv, .tsv or .parquet", id="another format"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(folder / name)
    with pytest.raises(DataError, match=r"no table 'nowhere\.csv'"):
        read(folder / "nowhere.csv")


def test_written_cases_hold_no_absolute_path_and_are_read_again(folder: Path, tmp_path: Path) -> None:
    text = "case_id,group,split,site,zip,image,label\nx,g,train,Ulm,089,a.nii,b.nii\ny,g,,,007,sub/größe.nii,c.nii\n"
    table = read(write(folder, text))
    written = tmp_path / "run" / "cases.csv"
    write_cases(table, written, facts={"x": {"shape": [3, 4, 5]}})
    assert str(tmp_path) not in written.read_text(encoding="utf-8")
    again = read(written, root=folder, labels=["site", "zip"])
    assert tuple(again) == tuple(table)
    assert pd.read_csv(written)["shape"].tolist()[0] == "[3, 4, 5]"


def test_files_outside_the_folder_of_the_table_move_the_root_up(folder: Path) -> None:
    (folder / "tables").mkdir()
    table = read(write(folder / "tables", "case_id,image\nx,../a.nii\ny,../sub/größe.nii\n"))
    assert table.root == folder
    write_cases(table, folder / "out.csv")
    assert "sub/größe.nii" in (folder / "out.csv").read_text(encoding="utf-8")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20))
def test_identifiers_that_pass_are_safe_as_file_names(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("ids")
    (folder / "a.nii").write_bytes(b"a")
    pd.DataFrame({"case_id": [text], "image": ["a.nii"]}).to_parquet(folder / "t.parquet")
    try:
        (case,) = read(folder / "t.parquet")
    except DataError:
        return
    (folder / f"{case.case_id}.json").write_text("{}")
    assert (folder / f"{case.case_id}.json") in folder.iterdir()


@pytest.mark.parametrize("pattern", ["(", "(a)(b)"], ids=["not a pattern", "two groups"])
def test_settings_refuse_group_patterns_that_cannot_work(pattern: str) -> None:
    with pytest.raises(ValidationError):
        TableData(file="x.csv", group_pattern=pattern)
