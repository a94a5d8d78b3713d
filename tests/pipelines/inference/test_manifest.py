"""Manifests: every row becomes an item or a failure with a reason, and relative paths belong to the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.errors import DataError
from pipelines.inference.manifest import expand_inputs, is_manifest, read_manifest
from pipelines.task import Item

ROWS = [{"path": "sub/a.item", "item_id": "first"}, {"path": "ü b.item", "item_id": ""}]


def _csv(path: Path) -> None:
    path.write_text("﻿Path,item_id\r\nsub/a.item,first\r\nü b.item,\r\n", encoding="utf-8")


def _parquet(path: Path) -> None:
    import pandas as pd

    pd.DataFrame([{"extra": 1, **row} for row in ROWS]).replace({"": None}).to_parquet(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        pytest.param("m.csv", _csv, id="CSV as Excel saves it"),
        pytest.param("m.tsv", lambda p: p.write_text("path\titem_id\nsub/a.item\tfirst\nü b.item\t\n"), id="TSV"),
        pytest.param("m.parquet", _parquet, id="Parquet"),
        pytest.param("m.jsonl", lambda p: p.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n"), id="JSON lines"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    rows = read_manifest(tmp_path / name)
    assert [(row.path, row.item_id) for row in rows] == [
        (tmp_path / "sub" / "a.item", "first"),
        (tmp_path / "ü b.item", ""),
    ]


def test_a_list_is_one_path_a_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# scans\n\nsub/a.item\n{tmp_path}/b.item\n")
    rows = read_manifest(tmp_path / "list.txt")
    assert [(row.path, row.where) for row in rows] == [
        (tmp_path / "sub" / "a.item", "list.txt:3"),
        (tmp_path / "b.item", "list.txt:4"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "m.csv", b"file,id\na,b\n", r"m.csv:2: there is no column 'path' \(found: file, id\)", id="no path"
        ),
        pytest.param("m.csv", b"path\n\xff\xfe\n", "cannot be read", id="not UTF-8"),
        pytest.param("m.jsonl", b'{"path": "a"}\n{oops\n', "cannot be read", id="broken JSON"),
        pytest.param("m.jsonl", b'["a"]\n', "line 1 is no JSON object", id="a JSON list"),
        pytest.param("m.parquet", b"PAR1 not really", "cannot be read", id="broken Parquet"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / name)


def _discover(paths: Sequence[Path]) -> list[Item]:
    """Files are items; a folder is as many items as it has files."""
    found = [one for path in paths for one in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return [Item(path.stem, (path,)) for path in dict.fromkeys(found) if path.suffix == ".item"]


def test_rows_become_items_or_items_with_a_problem(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for name in ("one.item", "series/x.item", "series/y.item", "notes.doc"):
        (tmp_path / name).write_text(name)
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,item_id\none.item,\none.item,again\nseries,study\nseries/x.item,x\nmissing.item,lost\nnotes.doc,\n,empty\n"
    )
    items, places = expand_inputs([manifest], _discover)
    assert [(item.item_id, item.problem) for item in items] == [
        ("one", ""),
        ("again", ""),
        ("study", ""),
        ("x", ""),
        ("lost", "m.csv:6: missing.item does not exist"),
        ("notes", "m.csv:7: nothing that can be read was found in notes.doc"),
        ("empty", "m.csv:8: the path is empty"),
    ]
    assert places == [tmp_path]


def test_a_folder_in_a_row_gives_one_item_for_each_scan_in_it(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for name in ("x.item", "y.item"):
        (tmp_path / "series" / name).write_text(name)
    (tmp_path / "m.jsonl").write_text('{"path": "series", "item_id": "study"}\n')
    items, _ = expand_inputs([tmp_path / "m.jsonl"], _discover)
    assert [item.item_id for item in items] == ["study_x", "study_y"]


def test_a_folder_named_like_a_manifest_is_none(tmp_path: Path) -> None:
    (tmp_path / "scans.csv").mkdir()
    assert not is_manifest(tmp_path / "scans.csv")


def test_a_manifest_is_predicted_and_its_missing_rows_fail(bench: Any) -> None:
    bench.put(a="one", b="two")
    manifest = bench.inputs / "list.csv"
    manifest.write_text("path,item_id\na.item,patient 1\n../scans/b.item,../../etc/passwd\nc.item,\n")
    summary = bench.run(manifest)
    assert bench.results() == {"patient 1": "ONE", "_.._.._etc_passwd": "TWO"}
    assert [(one.item_id, one.reason) for one in summary.failures] == [("c", "list.csv:4: c.item does not exist")]
    assert bench.run(manifest).counts["skipped"] == 2


def test_where_items_are_rows_of_tables_a_table_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("case_id,age\na,60\n")
    (tmp_path / "list.jsonl").write_text('{"path": "patients.csv"}\n')

    def discover(inputs: Sequence[Path]) -> list[Item]:
        return [Item(path.stem, (path,)) for path in inputs]

    items, places = expand_inputs([tmp_path / "patients.csv", tmp_path / "list.jsonl"], discover, tables=True)
    assert [item.paths for item in items] == [(tmp_path / "patients.csv",)] * 2
    assert places == [tmp_path / "patients.csv", tmp_path]
    with pytest.raises(DataError, match="no column 'path'"):
        expand_inputs([tmp_path / "patients.csv"], discover)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_a_task_takes_from_a_manifest_stands_in_its_items(tmp_path: Path, ending: str) -> None:
    for name in ("one.item", "two.item"):
        (tmp_path / name).write_text(name)
    manifest = tmp_path / f"m.{ending}"
    rows = [{"path": "one.item", "camera": "3", "note": "x"}, {"path": "two.item", "camera": "", "note": "y"}]
    if ending == "csv":
        manifest.write_text("path,camera,note\none.item,3,x\ntwo.item,,y\n")
    elif ending == "jsonl":
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).assign(vector=[[1.0], [2.0]]).to_parquet(manifest)
    items, _ = expand_inputs([manifest], _discover, columns=("camera", "view"))
    assert [dict(item.detail) for item in items] == [{"camera": "3"}, {}]
    untold, _ = expand_inputs([manifest], _discover)
    assert [dict(item.detail) for item in untold] == [{}, {}]
