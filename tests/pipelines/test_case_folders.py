"""Cases from folders whose file names match."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.casefolders import FolderData, read_folders
from pipelines.cases import CaseTable
from pipelines.errors import DataError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def read(root: Path, **options: Any) -> CaseTable:
    return read_folders(FolderData(root=root, **options))


def reasons(table: CaseTable) -> dict[str, str]:
    return {item.case_id: item.reason for item in table.excluded}


def test_images_labels_and_masks_are_matched_by_name(tmp_path: Path) -> None:
    root = make(tmp_path, *(f"{kind}/{n}_{kind}.png" for kind in ("image", "manual", "fov") for n in ("01", "02")))
    table = read(root, images="image/{case}_image.png", labels="manual/{case}_manual.png", masks="fov/{case}_fov.png")
    assert [case.case_id for case in table] == ["01", "02"]
    assert {role: path.name for role, path in table[0].paths.items()} == {
        "image": "01_image.png",
        "label": "01_manual.png",
        "mask": "01_fov.png",
    }


def test_what_does_not_match_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    root = make(tmp_path, "i/a.png", "i/b.png", "l/b.png", "l/c.png", "i/._a.png", "l/.DS_Store")
    table = read(root, images="i/{case}.png", labels="l/{case}.png")
    assert [case.case_id for case in table] == ["b"]
    assert reasons(table) == {"a": "no label", "c": "label without an image"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        pytest.param("{case}_{channel}.nii.gz", ["la_003_0000.nii.gz", "la_003_0001.nii.gz"], id="nnU-Net channels"),
        pytest.param(
            "{case}/{case}_{channel}.nii.gz", ["la_003/la_003_0.nii.gz", "la_003/la_003_10.nii.gz"], id="folders"
        ),
        pytest.param(
            ["{case}/{case}_t1.nii.gz", "{case}/{case}_t2.nii.gz"],
            ["la_003/la_003_t1.nii.gz", "la_003/la_003_t2.nii.gz"],
            id="channels by name",
        ),
    ],
)
def test_channels_in_files_of_their_own(tmp_path: Path, pattern: Any, names: list[str]) -> None:
    (case,) = read(make(tmp_path, *names), images=pattern)
    assert case.case_id == "la_003"
    assert [path.relative_to(tmp_path).as_posix() for path in case.files("image")] == names


def test_a_missing_channel_sets_the_case_aside(tmp_path: Path) -> None:
    root = make(tmp_path, "a_0000.nii", "a_0001.nii", "b_0001.nii")
    table = read(root, images="{case}_{channel}.nii")
    assert reasons(table) == {"b": "channels 0 are missing"}


def test_a_test_part_in_folders_of_its_own(tmp_path: Path) -> None:
    root = make(tmp_path, "train/1.png", "train/2.png", "test/3_test.png")
    table = read(root, images="train/{case}.png", test={"images": "test/{case}_test.png"})
    assert {case.case_id: case.split for case in table} == {"1": "", "2": "", "3": "test"}
    root = make(tmp_path, "test/1_test.png")
    with pytest.raises(DataError, match="more than one part: 1"):
        read(root, images="train/{case}.png", test={"images": "test/{case}_test.png"})


def test_groups_from_the_path_or_from_a_pattern(tmp_path: Path) -> None:
    root = make(tmp_path, "anna/1.png", "anna/2.png", "ben/1.png")
    table = read(root, images="{group}/{case}.png")
    assert {case.case_id: case.group for case in table} == {"anna_1": "anna", "anna_2": "anna", "ben_1": "ben"}
    root = make(tmp_path / "flat", "p1_a.png", "p1_b.png", "odd.png")
    table = read(root, images="{case}.png", group_pattern=r"^(p\d)_")
    assert {case.group for case in table} == {"p1"}
    assert "finds nothing" in reasons(table)["odd"]


def test_stars_pass_over_names_that_do_not_matter(tmp_path: Path) -> None:
    root = make(tmp_path, "site1/sub-1/anat/x1_T1w.nii.gz", "site2/sub-2/anat/x2_T1w.nii.gz", "site2/readme.txt")
    assert [case.case_id for case in read(root, images="*/sub-*/anat/{case}_T1w.nii.gz")] == ["x1", "x2"]
    root = make(tmp_path / "b", "a_v1.png", "a_v2.png", "b_v1.png")
    table = read(root, images="{case}_*.png")
    assert reasons(table) == {"a": "2 files match as image: a_v1.png, a_v2.png"}


@pytest.mark.parametrize("ending", [".nii.gz", ".tif", ".GIF"])
def test_names_of_any_script_and_with_dots(tmp_path: Path, ending: str) -> None:
    root = make(tmp_path, f"i/größe 1{ending}", f"i/a.b{ending}")
    assert [case.case_id for case in read(root, images=f"i/{{case}}{ending}")] == ["a.b", "größe 1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"images": "i/{case}.tif"}, r"no file matches 'i/\{case\}.tif'; in i/ there is: a.png", id="ending"
        ),
        pytest.param({"images": "x/{case}.png"}, "in the root folder there is: i, l", id="folder"),
        pytest.param(
            {"images": "i/{case}.png", "labels": "l/{case}.gif"}, "none of the 1 cases .* a: no label", id="labels"
        ),
    ],
)
def test_patterns_that_match_nothing_say_what_there_is(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    root = make(tmp_path, "i/a.png", "l/a.png")
    with pytest.raises(DataError, match=message):
        read(root, **options)
    with pytest.raises(DataError, match="no folder 'gone'"):
        read(root / "gone", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"images": "i/*.png"}, "{case}", id="no case"),
        pytest.param({"images": "{name}.png"}, "unknown placeholder", id="an unknown placeholder"),
        pytest.param({"images": {"case": None}}, "quotation marks", id="a pattern without quotation marks"),
        pytest.param({"images": "{group}/{case}.png", "labels": "{case}.png"}, "in some of the patterns", id="group"),
        pytest.param({"images": "{case}.png", "labels": "{case}_{channel}.png"}, "images only", id="label channels"),
        pytest.param({"images": []}, "at least 1", id="no image"),
    ],
)
def test_settings_refuse_patterns_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FolderData(root=".", **options)


def test_drive_with_its_own_test_part(data_root: Path) -> None:
    table = read(
        data_root / "drive_retina",
        images="training/images/{case}_training.png",
        labels="training/1st_manual/{case}_manual1.png",
        masks="training/mask/{case}_training_mask.png",
        test={
            "images": "test/images/{case}_test.png",
            "labels": "test/1st_manual/{case}_manual1.png",
            "masks": "test/mask/{case}_test_mask.png",
        },
    )
    assert (len(table), len(table.part("test")), table.excluded) == (40, 20, ())
    assert all(set(case.paths) == {"image", "label", "mask"} for case in table)
