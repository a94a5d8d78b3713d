"""Cases of Decathlon and nnU-Net data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from domains.medical.cases import DecathlonData, MedicalData, read_decathlon, read_medical_cases
from pipelines.cases import CaseTable
from pipelines.errors import DataError

OLD = {"name": "Spleen", "labels": {"0": "background", "1": "spleen"}, "modality": {"0": "CT"}}
NEW = {"channel_names": {"1": "T2", "0": "T1"}, "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}


def make(root: Path, description: Any, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    text = description if isinstance(description, str) else json.dumps(description)
    (root / "dataset.json").write_text(text, encoding="utf-8")
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def read(root: Path, **options: Any) -> CaseTable:
    return read_decathlon(DecathlonData(root=root, **options))


def pair(name: str) -> dict[str, str]:
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def files(*names: str) -> list[str]:
    return [f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in names]


def test_a_decathlon_set(tmp_path: Path) -> None:
    listed = OLD | {"training": [pair("b"), pair("a")], "test": ["./imagesTs/t.nii.gz"]}
    table = read(make(tmp_path, listed, *files("a", "b"), "imagesTs/t.nii.gz", "imagesTr/._a.nii.gz"))
    assert [(case.case_id, case.group, case.split) for case in table] == [("a", "a", ""), ("b", "b", "")]
    assert table.name == "Spleen"
    assert table.about == {"classes": {"spleen": 1}, "channels": ("CT",)}
    assert [(item.case_id, item.reason) for item in table.excluded] == [
        ("t", "no label: it is in the test list, to be predicted only")
    ]


def test_lists_of_labelled_validation_and_test_cases_are_given_parts(tmp_path: Path) -> None:
    listed = OLD | {"training": [pair("a")], "validation": [pair("b")], "test": [pair("c")]}
    table = read(make(tmp_path, listed, *files("a", "b", "c")))
    assert [case.split for case in table] == ["", "validation", "test"]


def test_an_nnunet_2_set_without_lists(tmp_path: Path) -> None:
    names = [f"images{part}/{case}_000{c}.nrrd" for part, case in (("Tr", "x_01"), ("Ts", "y")) for c in (0, 1)]
    root = make(tmp_path, NEW | {"file_ending": ".nrrd"}, *names, "labelsTr/x_01.nrrd", "labelsTs/y.nrrd")
    table = read(root)
    assert [(case.case_id, case.split) for case in table] == [("x_01", ""), ("y", "test")]
    assert [path.name for path in table[0].files("image")] == ["x_01_0000.nrrd", "x_01_0001.nrrd"]
    assert table.about == {"classes": {"whole": (1, 2), "core": 2}, "channels": ("T1", "T2")}


def test_an_nnunet_1_set_lists_files_without_their_channel(tmp_path: Path) -> None:
    root = make(tmp_path, OLD | {"training": [pair("a")]}, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (case,) = read(root)
    assert (case.case_id, case.paths["image"].name) == ("a", "a_0000.nii.gz")


def test_files_of_one_name_in_many_folders_are_told_apart(tmp_path: Path) -> None:
    entries = [{"image": f"{name}/scan.nii.gz", "label": f"{name}/seg.nii.gz"} for name in ("p1", "p2")]
    root = make(tmp_path, OLD | {"training": entries}, *(file for entry in entries for file in entry.values()))
    assert [case.case_id for case in read(root)] == ["p1_scan", "p2_scan"]


def test_cases_without_a_label_or_a_file_are_set_aside(tmp_path: Path) -> None:
    entries = [pair("a"), {"image": "imagesTr/b.nii.gz"}, pair("c"), pair("odd")]
    root = make(tmp_path, OLD | {"training": entries}, *files("a", "odd"), "imagesTr/b.nii.gz", "imagesTr/c.nii.gz")
    table = read(root, group_pattern="^([a-c])$")
    assert [case.case_id for case in table] == ["a"]
    found = {item.case_id: item.reason for item in table.excluded}
    assert (found["b"], found["c"]) == ("no label", "no file labelsTr/c.nii.gz")
    assert "finds nothing" in found["odd"]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        pytest.param("{", "not JSON", id="broken"),
        pytest.param("[" * 100_000, "not JSON", id="nested without end"),
        pytest.param([], "holds a list", id="a list"),
        pytest.param({"training": {}} | OLD, "lists no cases", id="no cases"),
        pytest.param({"training": "all"}, "'training' is a str", id="no list"),
        pytest.param({"training": [3]}, r"training\[0\] should be a file", id="an entry that is no file"),
        pytest.param({"training": [{"image": [1]}]}, r"training\[0\] should be a file", id="an image that is no file"),
        pytest.param({"training": [pair("a"), pair("a")]}, "1 images more than once", id="twice"),
        pytest.param(
            OLD | {"training": [pair("gone")]}, "none of the 1 cases can be used: gone: no file", id="no files"
        ),
        pytest.param({"labels": ["a"], "training": [pair("a")]}, "'labels' is a list", id="labels without values"),
        pytest.param({"labels": {"a": "x"}, "training": [pair("a")]}, "whole number", id="a label that is no number"),
    ],
)
def test_a_description_that_does_not_fit_is_explained(tmp_path: Path, description: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make(tmp_path, description, *files("a")))


def test_a_folder_without_a_description_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset\.json in the folder"):
        read(tmp_path)


def test_the_format_chooses_the_reader(tmp_path: Path) -> None:
    make(tmp_path, OLD | {"training": [pair("a")]}, *files("a"))
    (tmp_path / "t.csv").write_text("case_id,image\na,imagesTr/a.nii.gz\n")
    adapter: TypeAdapter[Any] = TypeAdapter(MedicalData)
    written = [
        {"format": "decathlon", "root": str(tmp_path)},
        {"format": "folders", "root": str(tmp_path), "images": "imagesTr/{case}.nii.gz"},
        {"format": "table", "file": str(tmp_path / "t.csv")},
    ]
    for settings in written:
        (case,) = read_medical_cases(adapter.validate_python(settings))
        assert (case.case_id, case.paths["image"]) == ("a", tmp_path / "imagesTr" / "a.nii.gz")


def test_the_hippocampus_set(data_root: Path) -> None:
    table = read(data_root / "msd_hippocampus")
    assert (len(table), table.excluded) == (200, ())
    assert table.about["classes"] == {"Anterior": 1, "Posterior": 2}
