"""Labels and pictures that are wrong are named before anything is trained; odd ones are read as what they show."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domains.video.pose.checking import check_frame
from domains.video.pose.formats import read_coco, read_deeplabcut, read_lsp
from domains.video.pose.labels import LabelledFrame, LabelledPerson
from domains.video.pose.settings import InputSettings
from domains.video.skeletons.joints import joint_set
from pipelines.errors import CaseError, DataError

COCO = joint_set("coco17")


def coco_file(folder: Path, image: dict[str, Any], annotation: dict[str, Any]) -> Path:
    held = {
        "images": [{"id": 7, "file_name": "a.jpg", **image}],
        "annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] * 17, **annotation}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints)}],
    }
    path = folder / "x.json"
    path.write_text(json.dumps(held))
    return path


@pytest.mark.parametrize(
    ("image", "annotation", "named"),
    [
        pytest.param({"frame_id": "x"}, {}, "image 7 cannot be used: .*'x'", id="frame number"),
        pytest.param({}, {"bbox": [1, 2, 3]}, "annotation 0 cannot be used: .*got 3", id="three sides"),
        pytest.param({}, {"bbox": "abcd"}, "annotation 0 cannot be used: .*'a'", id="text for a box"),
        pytest.param({}, {"keypoints": ["a"] * 51}, "annotation 0 cannot be used: .*'a'", id="text for joints"),
        pytest.param({}, {"bbox_head": [1, 2]}, "annotation 0 cannot be used", id="half a head"),
        pytest.param({}, {"image_id": 8}, "annotation 0 is of image 8, which is not listed", id="no such image"),
    ],
)
def test_entries_of_json_that_cannot_be_used_are_named(tmp_path, image, annotation, named):
    with pytest.raises(DataError, match=named):
        read_coco(coco_file(tmp_path, image, annotation), tmp_path)


@pytest.mark.parametrize(
    ("annotation", "box", "area"),
    [
        pytest.param({"bbox": [1, 2, float("nan"), 4]}, None, 0, id="a side that is none"),
        pytest.param({"bbox": None}, None, 0, id="no box"),
        pytest.param({"bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] + [0] * 48}, (1, 2, 3, 4), 12, id="one joint"),
        pytest.param({"area": None}, (1, 2, 3, 4), 12, id="no area"),
        pytest.param({"area": 5, "track_id": None, "iscrowd": None}, (1, 2, 3, 4), 5, id="nothing said"),
    ],
)
def test_what_json_leaves_out_is_left_out(tmp_path, annotation, box, area):
    found = read_coco(coco_file(tmp_path, {"file_name": "one\\a.jpg"}, annotation), tmp_path)
    assert found.frames[0].path == tmp_path / "one" / "a.jpg"
    (person,) = found.frames[0].persons
    assert (person.box, person.area, person.track, person.ignored) == (box, area, "", False)


HEADER = "scorer,A,A,A,A\nbodyparts,s,s,t,t\ncoords,x,y,x,y\n"


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (HEADER + "a.png,1,2\n", "line 4: 3 cells; its header has 5"),
        ("scorer,A,A\nbodyparts,s,s,t,t\ncoords,x,y,x,y\na.png,1,2,3,4\n", r"several lengths \(scorer 3, bodyparts 5"),
        ("scorer,A,A\nbodyparts,s,s\ncoords,p,q\na.png,1,2\n", "header rows name no x and y"),
        ("scorer,A,A\nbodyparts,s,s\ncoords,x,y\na.png,1,2\n", "1 joints; allowed are two or more"),
        (HEADER.replace(",", ";"), "is no table of DeepLabCut"),
    ],
)
def test_tables_that_are_broken_are_named(tmp_path, table, named):
    path = tmp_path / "t.csv"
    path.write_text(table)
    with pytest.raises(DataError, match=named):
        read_deeplabcut(path)


@pytest.mark.parametrize("told", ["labeled-data\\m\\a1.png", "/home/ann/m/a1.png", "a1.png"])
def test_tables_of_other_machines_are_read(tmp_path, told):
    path = tmp_path / "t.csv"
    path.write_text(f"\ufeff{HEADER}\n{told},1,2,3,4\n\n", encoding="utf-8")
    (frame,) = read_deeplabcut(path).frames
    assert (frame.name, frame.path, frame.number) == ("a1", tmp_path / "a1.png", 1)
    np.testing.assert_array_equal(frame.persons[0].points, [[1, 2], [3, 4]])
    with pytest.raises(CaseError, match=r"a1: there is no file a1\.png"):
        check_frame("a1", frame, (frame.path,), InputSettings())


def test_joints_that_only_the_scene_has_are_unknown_for_each_animal(tmp_path):
    """DeepLabCut's tables of several animals end with the joints of nobody in particular."""
    rows = [
        ["scorer", "", "", *["A"] * 10],
        ["individuals", "", "", *["m1"] * 4, *["m2"] * 4, *["single"] * 2],
        ["bodyparts", "", "", *["s", "s", "t", "t"] * 2, "lamp", "lamp"],
        ["coords", "", "", *["x", "y"] * 5],
        ["labeled-data", "v", "a1.png", "1", "2", "", "", "5", "6", "7", "8", "9", "9"],
    ]
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = read_deeplabcut(path)
    assert found.joints.joints == ("s", "t", "lamp")
    known = {one.track: one.known.tolist() for one in found.frames[0].persons}
    assert known == {"m1": [True, False, False], "m2": [True, True, False], "single": [False, False, True]}
    # A cut around a single joint would have it in its middle, whoever looks.
    assert [one.ignored for one in found.frames[0].persons] == [True, False, True]


def test_arrays_that_do_not_belong_together_are_named(tmp_path):
    joints, names = np.ones((2, 14, 2)), np.array(["a.jpg", "b.jpg"])
    for arrays, named in (
        ({"joints": joints, "visible": np.ones((2, 13))}, r"visible \(2, 13\) for joints \(2, 14, 2\)"),
        ({"joints": joints.astype(str)}, "allowed are"),
    ):
        np.savez(tmp_path / "l.npz", names=names, **arrays)
        with pytest.raises(DataError, match=named):
            read_lsp(tmp_path / "l.npz", tmp_path, joint_set("lsp14"))


def test_pictures_are_checked_with_the_frames_beside_them(tmp_path):
    person = LabelledPerson(np.array([[3, 3], [9, 9]], np.float32), np.ones(2, bool), (1, 1, 20, 20))
    away = LabelledPerson(person.points, person.known, (100, 1, 20, 20))
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png", "cut.jpg")]
    noise = np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8)
    for path in files[:2]:
        Image.fromarray(noise).save(path)
    Image.fromarray(noise[:50]).save(files[2])
    Image.fromarray(noise).save(files[3])
    files[3].write_bytes(files[3].read_bytes()[:2000])  # the head still tells a size

    def check(*clip: Path, who: LabelledPerson = person) -> dict[str, Any]:
        return check_frame("x", LabelledFrame("x", clip[0], (who,), "x"), clip, InputSettings())

    lone = LabelledPerson(person.points, np.array([True, False]))
    assert check(files[0], files[1]) == {"height": 90, "width": 80, "persons": 1}
    for clip, who, named in (
        ((files[0], files[2]), person, "frames of its clip have several sizes"),
        ((files[0], files[3]), person, r"cut\.jpg is no readable picture: .*truncated"),
        ((files[0],), lone, "one joint is labelled, and no box"),
        ((files[0],), away, r"box \[100, 1, 20, 20\] lies outside of its 80 × 90 pixels"),
    ):
        with pytest.raises(CaseError, match=named):
            check(*clip, who=who)
