"""Labelled pictures of each format, their parts, and the frames beside each."""

import json
from pathlib import Path

import numpy as np
import pytest

from domains.video.pose.cases import clip_paths, held_labels, last_frames, pose_table
from domains.video.pose.formats import read_coco, read_deeplabcut, read_lsp
from domains.video.pose.labels import LabelledFrame, SequenceFrame
from domains.video.pose.settings import DataSettings, InputSettings, LastFrames
from domains.video.skeletons.joints import JointSetMismatch, joint_set, mirrored_by_name
from pipelines.errors import DataError


def test_a_deeplabcut_table_whose_pictures_have_another_ending(mouse):
    found = read_deeplabcut(mouse)
    assert found.joints.joints == ("snout", "leftear", "rightear", "tailbase")
    assert found.joints.flip == (("leftear", "rightear"),)
    assert [one.number for one in found.frames] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert found.frames[6].path.name == "img007.jpg"
    assert found.frames[3].persons[0].known.tolist() == [True, True, True, False]
    lines = mouse.read_text().splitlines()
    first = [float(cell) for cell in lines[3].split(",")[1:]]
    np.testing.assert_allclose(found.frames[0].persons[0].points.ravel(), first, rtol=1e-6)


def test_deeplabcut_tables_that_are_wrong_are_named(mouse):
    text = mouse.read_text()
    mouse.write_text(text.replace("bodyparts", "parts"))
    with pytest.raises(DataError, match="lacks the rows scorer, bodyparts and coords"):
        read_deeplabcut(mouse)
    mouse.write_text(text)
    with pytest.raises(JointSetMismatch, match="lsp14 is needed"):
        read_deeplabcut(mouse, joint_set("lsp14"))
    cell = text.splitlines()[4].split(",")[1]
    mouse.write_text(text.replace(cell, "here", 1))
    with pytest.raises(DataError, match="line 5: 'here' of snout is no number"):
        read_deeplabcut(mouse)


def test_newer_deeplabcut_tables_have_three_columns_and_individuals(mouse):
    lines = mouse.read_text().splitlines()
    wide = [f"{line.split(',')[0]},,,{','.join(line.split(',')[1:])}" for line in lines[:3]]
    for line in lines[3:]:
        path, *cells = line.split(",")
        wide.append(",".join([*path.split("/"), *cells]))
    wide.insert(1, "individuals,,," + ",".join(["one"] * 4 + ["two"] * 4))
    wide[2] = "bodyparts,,,snout,snout,tail,tail,snout,snout,tail,tail"
    mouse.write_text("\n".join(wide))
    found = read_deeplabcut(mouse)
    assert found.joints.joints == ("snout", "tail")
    assert [person.track for person in found.frames[0].persons] == ["one", "two"]
    assert len(read_deeplabcut(mouse).frames) == 10
    assert found.frames[3].persons[1].known.tolist() == [True, False]


def test_pairs_are_made_from_names():
    assert mirrored_by_name(("nose", "left_eye", "right_eye", "LeftPaw", "RightPaw", "leftover")) == (
        ("left_eye", "right_eye"),
        ("LeftPaw", "RightPaw"),
    )


def test_sports_people_from_arrays(tmp_path):
    joints = np.random.default_rng(0).uniform(0, 50, (3, 14, 2))
    joints[1, 4] = np.nan
    joints[2, 5] = -1
    np.savez(tmp_path / "joints.npz", joints=joints, names=np.array(["a.jpg", "b.jpg", "c.jpg"]))
    found = read_lsp(tmp_path / "joints.npz", tmp_path, joint_set("lsp14"))
    assert [int(one.persons[0].known.sum()) for one in found.frames] == [14, 13, 13]
    assert np.isfinite(found.frames[1].persons[0].points).all()
    with pytest.raises(JointSetMismatch, match="has 14 joints, coco17 has 17"):
        read_lsp(tmp_path / "joints.npz", tmp_path, joint_set("coco17"))
    np.savez(tmp_path / "other.npz", joints=joints)
    with pytest.raises(DataError, match=r"other.npz has no array names; it has joints"):
        read_lsp(tmp_path / "other.npz", tmp_path, joint_set("lsp14"))
    with pytest.raises(DataError, match=r"none\.npz cannot be read"):
        read_lsp(tmp_path / "none.npz", tmp_path, joint_set("lsp14"))


def test_cocos_persons_and_crowds(crowd_json):
    found = read_coco(crowd_json, crowd_json.parent / "images")
    assert found.joints.joints == joint_set("coco17").joints
    assert [len(one.persons) for one in found.frames] == [3, 1]
    first, second, crowd = found.frames[0].persons
    assert first.box == (2, 4, 30, 50)
    assert first.known.sum() == 12
    assert not second.ignored
    assert crowd.ignored
    held = json.loads(crowd_json.read_text())
    held["annotations"][0]["keypoints"] = [1, 2, 3]
    crowd_json.write_text(json.dumps(held))
    with pytest.raises(JointSetMismatch, match="annotation 0 has 3 numbers"):
        read_coco(crowd_json, crowd_json.parent)


def test_posetracks_frames_make_sequences_with_the_unlabelled_ones(crowd_json):
    held = json.loads(crowd_json.read_text())
    for at, image in enumerate(held["images"]):
        image |= {"vid_id": "007", "frame_id": 10 - at}
    held["annotations"][0]["bbox_head"] = [0, 0, 3, 4]
    crowd_json.write_text(json.dumps(held))
    found = read_coco(crowd_json, crowd_json.parent / "images")
    assert {one.sequence for one in found.frames} == {"007"}
    assert [one.number for one in found.sequences["007"]] == [8, 9, 10]
    assert found.frames[0].persons[0].head == pytest.approx(3)


def frame(number: int) -> LabelledFrame:
    return LabelledFrame(f"f{number}", Path(f"f{number}"), (), "s", number)


def shown(number: int, numbers: list[int], **given: int) -> list[str]:
    sequence = {"s": tuple(SequenceFrame(one, Path(f"f{one}")) for one in numbers)}
    return [path.name for path in clip_paths(frame(number), sequence, InputSettings(**given))]


def test_frames_beside_are_clamped_and_never_invented():
    assert shown(5, [3, 4, 5, 6, 7], frames=5) == ["f3", "f4", "f5", "f6", "f7"]
    assert shown(3, [3, 4, 5], frames=5) == ["f3", "f3", "f3", "f4", "f5"]
    assert shown(5, [5], frames=3) == ["f5", "f5", "f5"]
    assert shown(5, [3, 5, 7], frames=3) == ["f5", "f5", "f5"]  # those two apart are not its neighbours
    assert shown(5, [3, 5, 7], frames=3, reach=2) == ["f3", "f5", "f7"]
    assert shown(10, [4, 7, 10, 13, 16], frames=5, step=3) == ["f4", "f7", "f10", "f13", "f16"]
    assert shown(5, [5, 6], frames=1) == ["f5"]


def test_parts_by_the_order_of_frames(mouse):
    data = DataSettings(format="deeplabcut", file=mouse, group="picture", last=LastFrames(test=0.2, validation=0.25))
    table, _ = pose_table(held_labels(data), data)
    assert [case.split for case in table] == ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    with pytest.raises(DataError, match="sequence s has 1 labelled frames: too few"):
        last_frames([frame(1)], LastFrames())
    with pytest.raises(ValueError, match=r"data.group must be 'picture'"):
        DataSettings(format="deeplabcut", file=mouse, last=LastFrames())
