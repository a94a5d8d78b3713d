"""What counts as an input, and what it is called."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from domains.medical.scans.discovery import discover
from domains.medical.scans.reading import read_scan
from domains.medical.scans.writing import write_labels, write_probabilities

SeriesWriter = Callable[..., list[Path]]


def _nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), path)
    return path


def _touch(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_files_folders_and_globs_name_each_scan_once(tmp_path: Path) -> None:
    first, second = _nifti(tmp_path / "in/a.nii.gz"), _nifti(tmp_path / "in/deep/er/B.NII")
    _touch(tmp_path / "in/README.md")
    _touch(tmp_path / "in/cases.csv")
    _touch(tmp_path / "in/.hidden.nii")
    _touch(tmp_path / "in/.git/x.nii")
    found = discover([tmp_path / "in", first, tmp_path / "in/**/*.nii*"])
    assert [(item.item_id, item.paths, item.kind, item.problem) for item in found] == [
        ("a", (first,), "nifti", ""),
        ("deep_er_B", (second,), "nifti", ""),
    ]


@pytest.mark.parametrize(
    ("given", "name", "problem"),
    [
        pytest.param("nothing.nii.gz", "nothing", "file not found", id="no file"),
        pytest.param("*.nothing", "nothing", "no file matches", id="no match"),
        pytest.param("notes.txt", "notes.txt", "not a format that can be read", id="another format, named"),
        pytest.param("scan.dcm", "scan", "not a DICOM file", id="not DICOM"),
        pytest.param("empty.dcm", "empty", "empty file", id="empty"),
        pytest.param("brain.mgz", "brain.mgz", "convert it to NIfTI", id="a scan of another format"),
    ],
)
def test_what_was_asked_for_and_cannot_be_is_a_problem(tmp_path: Path, given: str, name: str, problem: str) -> None:
    for file in ("notes.txt", "scan.dcm", "brain.mgz"):
        _touch(tmp_path / file)
    (tmp_path / "empty.dcm").touch()
    (item,) = discover([tmp_path / given])
    assert item.item_id == name
    assert problem in item.problem


def test_in_a_folder_only_what_looks_like_a_scan_is_a_problem(tmp_path: Path) -> None:
    for file in ("notes.txt", "data.json", "scan.dcm", "brain.mgz", "no_suffix", "ledger.sqlite"):
        _touch(tmp_path / file)
    assert [item.item_id for item in discover([tmp_path])] == ["brain.mgz", "scan"]


def test_label_maps_beside_their_scans_are_left_out_unless_named(tmp_path: Path) -> None:
    for file in ("a.nii.gz", "a_seg.nii.gz", "b_t1.nii.gz", "b_mask.nii.gz", "lonely_label.nii.gz"):
        _nifti(tmp_path / "flat" / file)
    for folder in ("imagesTr", "labelsTr"):
        _nifti(tmp_path / "decathlon" / folder / "case.nii.gz")
    assert [item.item_id for item in discover([tmp_path / "flat"])] == ["a", "b_t1", "lonely_label"]
    assert [item.item_id for item in discover([tmp_path / "decathlon"])] == ["imagesTr_case"]
    assert len(discover([tmp_path / "flat/a_seg.nii.gz"])) == 1
    assert len(discover([tmp_path / "decathlon/labelsTr"])) == 1


def test_own_results_are_left_out(tmp_path: Path) -> None:
    scan = read_scan(_nifti(tmp_path / "a.nii.gz"))
    write_labels(scan, np.ones(scan.shape, np.uint8), tmp_path / "out.nii.gz", ["x"])
    write_probabilities(scan, np.ones(scan.shape, np.float32), tmp_path / "p.nii.gz")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "photo.png")
    picture = read_scan(tmp_path / "photo.png")
    write_labels(picture, np.ones(picture.shape, np.uint8), tmp_path / "mask.png", ["x"])
    _touch(tmp_path / "results/ledger.sqlite")
    (tmp_path / "results/.pulvinar").mkdir()
    _nifti(tmp_path / "results/a/labels.nii.gz")
    assert [item.item_id for item in discover([tmp_path])] == ["a", "photo"]
    assert [item.item_id for item in discover([tmp_path], pictures=False)] == ["a"]
    assert [item.item_id for item in discover([tmp_path / "photo.png"], pictures=False)] == ["photo"]


def test_names_are_unique_safe_and_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a/b.nii", "a_b.nii", "A_B.nii.gz", "Zoë 測試 (1).nii", "-x.nii", "x" * 200 + ".nii", "a:b?.nii"):
        _nifti(tmp_path / name)
    os.rename(_nifti(tmp_path / "plain.nii"), os.fsencode(tmp_path) + b"/bad\xff.nii")
    items = discover([tmp_path])
    names = [item.item_id for item in items]
    assert len({name.casefold() for name in names}) == 8
    assert all(
        0 < len(name.encode()) <= 127 and name[0] not in ".-" and not set(name) & set('/\\:*?"<>| ') for name in names
    )
    assert any(name.startswith("Zoë_測試") for name in names)
    assert names == [item.item_id for item in discover([tmp_path])]
    assert all(read_scan(item).shape == (2, 3, 4) for item in items)


def test_dicom_is_found_by_content_and_names_no_patient(tmp_path: Path, write_series: SeriesWriter) -> None:
    voxels = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    write_series(tmp_path / "Jane DOE/t1", voxels, names=["one", "two", "three"])
    write_series(tmp_path / "Jane DOE/t1", voxels + 9, names=["4", "5", "6"], series_uid="1.2.99", SeriesNumber=8)
    write_series(tmp_path / "1.2.840.113619.2.55.3", voxels, series_uid="1.2.77", names=["ID123456.dcm", "b", "c"])
    (tmp_path / "DICOMDIR").write_bytes(b"")
    items = discover([tmp_path])
    assert [len(item.paths) for item in items] == [3, 3, 3]
    for item in items:
        told = f"{item.item_id} {item.detail}"
        assert "doe" not in told.lower()
        assert "ID123456" not in told
        assert "113619" not in told
    assert {item.item_id.rpartition("-")[0] for item in items} == {"subject_t1-s7", "subject_t1-s8", "series-s7"}


def test_a_series_spread_over_folders_is_one_and_copies_are_two(tmp_path: Path, write_series: SeriesWriter) -> None:
    voxels = np.arange(4 * 4 * 5).reshape(4, 4, 5)
    paths = write_series(tmp_path / "whole/a", voxels)
    (tmp_path / "whole/b").mkdir()
    for path in paths[2:]:
        path.rename(tmp_path / "whole/b" / path.name)
    (item,) = discover([tmp_path / "whole"])
    assert read_scan(item).shape == (5, 4, 4)
    write_series(tmp_path / "copies/a", voxels)
    write_series(tmp_path / "copies/b", voxels)
    assert [len(item.paths) for item in discover([tmp_path / "copies"])] == [4, 4]


def test_loops_of_links_and_locked_folders_end(tmp_path: Path) -> None:
    _nifti(tmp_path / "a/scan.nii")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "gone.nii").symlink_to(tmp_path / "nowhere")
    assert [item.item_id for item in discover([tmp_path])] == ["a_scan", "gone"]


def test_headers_of_many_files_are_read_quickly(tmp_path: Path, write_series: SeriesWriter) -> None:
    write_series(tmp_path / "s", np.ones((200, 8, 8)))
    started = time.perf_counter()
    (item,) = discover([tmp_path])
    assert len(item.paths) == 200
    assert time.perf_counter() - started < 4.0  # 20 ms a file, ten times what it takes
