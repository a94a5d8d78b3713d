"""Sets of joints, the common layout, and readers of the formats others use."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.video.skeletons.joints import JointSet, JointSetMismatch, joint_set, joint_set_names, require_same
from domains.video.skeletons.labels import label_clips
from domains.video.skeletons.opening import gather, open_skeletons
from domains.video.skeletons.pickles import UnsafePickle, read_pickle
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, load_skeletons, save_skeletons
from pipelines.errors import ConfigurationError, DataError
from pipelines.fixtures import data_root

SIZES = {"coco17": 17, "jhmdb15": 15, "lsp14": 14, "ntu25": 25, "posetrack17": 17}


@pytest.mark.parametrize("name", joint_set_names())
def test_a_known_set_hangs_together_and_is_its_own_mirror(name: str) -> None:
    joints = joint_set(name)
    assert len(joints) == SIZES[name]
    assert [joints.mirror[place] for place in joints.mirror] == list(range(len(joints)))
    for place, other in enumerate(joints.mirror):
        swapped = joints.joints[place].replace("left_", "RIGHT_").replace("right_", "left_")
        assert joints.joints[other] == swapped.replace("RIGHT_", "right_")
    roots = [place for place, parent in enumerate(joints.parents) if place == parent]
    assert roots == [joints.centre_places[0]], "one body, one root"
    mirrored = {frozenset(joints.joints[joints.mirror[joints.joints.index(j)]] for j in bone) for bone in joints.bones}
    assert mirrored == {frozenset(bone) for bone in joints.bones}
    if joints.sigmas:
        assert [joints.sigmas[place] for place in joints.mirror] == list(joints.sigmas)
    assert JointSet.from_description(json.loads(json.dumps(joints.describe()))) == joints


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({"joints": ("a", "a")}, "each once", id="a joint twice"),
        pytest.param({"joints": ("a", "b"), "bones": (("a", "c"),)}, "no joint c", id="a bone to nowhere"),
        pytest.param(
            {"joints": ("a", "b"), "flip": (("a", "b"), ("b", "a"))}, "two flip pairs", id="two mirror images"
        ),
        pytest.param({"joints": ("a", "b"), "sigmas": (0.1,)}, "1 sigmas for 2", id="a sigma too few"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        JointSet("mine", **given)


def test_other_joints_are_a_mismatch_that_says_which() -> None:
    jhmdb = joint_set("jhmdb15")
    shuffled = JointSet("mine", (jhmdb.joints[1], jhmdb.joints[0], *jhmdb.joints[2:]))
    require_same(jhmdb, JointSet("the same by another name", jhmdb.joints), "here")
    with pytest.raises(JointSetMismatch, match="17 joints, jhmdb15 has 15"):
        require_same(jhmdb, joint_set("coco17"), "here")
    with pytest.raises(JointSetMismatch, match="another order, first at 0: belly"):
        require_same(jhmdb, shuffled, "here")
    with pytest.raises(JointSetMismatch, match="head_bottom, head_top"):
        require_same(joint_set("coco17"), joint_set("posetrack17"), "here")
    with pytest.raises(ConfigurationError, match="coco17"):
        joint_set("coco18")


def some_set(seed: int = 0) -> SkeletonSet:
    """Two clips of different length and number of persons; some joints not seen."""
    rng = np.random.default_rng(seed)
    made = []
    for name, persons, frames, label in (("wave/1", 1, 5, "wave"), ("walk/2", 2, 3, "walk"), ("new", 1, 1, "")):
        confidence = (rng.random((persons, frames, 15)) > 0.2).astype(np.float32)
        pose = rng.normal(size=(persons, frames, 15, 2)).astype(np.float32) * confidence[..., None]
        made.append(SkeletonSequence(name, pose, confidence, label, f"g-{name}", "train"))
    return SkeletonSet(joint_set("jhmdb15"), tuple(made), ("wave", "walk"))


def test_the_layout_gives_back_what_was_written(tmp_path: Path) -> None:
    written = some_set()
    save_skeletons(written, tmp_path / "all.npz")
    read = load_skeletons(tmp_path / "all.npz")
    assert (read.joints, read.classes) == (written.joints, written.classes)
    for a, b in zip(read.sequences, written.sequences, strict=True):
        assert (a.name, a.label, a.group, a.split) == (b.name, b.label, b.group, b.split)
        np.testing.assert_array_equal(a.coordinates, b.coordinates)
        np.testing.assert_array_equal(a.confidence, b.confidence)
    with pytest.raises(JointSetMismatch):
        load_skeletons(tmp_path / "all.npz", joint_set("coco17"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"length": np.array([5, 4, 1])}, "rows of pose", id="a frame too many"),
        pytest.param({"length": np.array([5, 3])}, "persons", id="a clip too few"),
        pytest.param({"pose": np.zeros((12, 14, 2), np.float32)}, "takes", id="a joint too few"),
        pytest.param({"label": np.array([0, 1, 2])}, "labels from 0 to 2 for 2", id="an unknown class"),
        pytest.param({"joints": np.array("{")}, "not JSON", id="joints that are no JSON"),
        pytest.param({"label": np.array([0, 0.5, 1])}, "no whole numbers", id="half a class"),
        pytest.param({"size": np.zeros((2, 2), int)}, "size", id="a size too few"),
        pytest.param({"length": np.array(["a", "b", "c"])}, "length holds no numbers", id="lengths of text"),
        pytest.param(
            {"length": np.zeros(0, int), "pose": np.zeros((0, 15, 2)), "persons": np.zeros(0, int)},
            "holds no sequences",
            id="nothing",
        ),
    ],
)
def test_arrays_that_do_not_belong_together_are_an_error(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    save_skeletons(some_set(), tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as held:
        arrays = dict(held) | change
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(DataError, match=told):
        load_skeletons(tmp_path / "changed.npz")


def test_a_coordinate_that_is_no_number_was_not_seen(tmp_path: Path) -> None:
    pose = np.ones((4, 15, 2), np.float32)
    pose[1, 3, 0] = np.nan
    np.savez(tmp_path / "a.npz", pose=pose, length=np.array([4]))
    only = load_skeletons(tmp_path / "a.npz", joint_set("jhmdb15")).sequences[0]
    np.savez(tmp_path / "b.npz", pose=pose, length=np.array([2, 2]), label=np.array([[1.0], [0.0]]).ravel())
    assert [one.label for one in load_skeletons(tmp_path / "b.npz", joint_set("jhmdb15")).sequences] == [
        "class-1",
        "class-0",
    ]
    assert only.confidence[0, 1, 3] == 0
    assert only.confidence.sum() == 4 * 15 - 1
    assert np.isfinite(only.coordinates).all()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_of_containers_and_arrays_is_data(tmp_path: Path, protocol: int) -> None:
    held = {
        "arrays": [np.arange(6, dtype=np.float16).reshape(2, 3), np.array(["a", "bc"]), np.zeros((0, 2), ">i4")],
        "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "plain": (1, 2.5, "text", b"bytes", None, True, {3, 4}),
        "scalars": [np.float32(0.5), np.int64(7)],
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held, protocol))
    read = read_pickle(tmp_path / "a.pkl")
    assert read["plain"] == held["plain"]
    assert read["scalars"] == held["scalars"]
    for a, b in zip([*read["arrays"], read["order"]], [*held["arrays"], held["order"]], strict=True):  # type: ignore[list-item]
        assert a.dtype == b.dtype.newbyteorder("=") or a.dtype == b.dtype  # NumPy may swap bytes while it reads
        np.testing.assert_array_equal(a, b)


class _Runs:
    def __init__(self, what: Any, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> Any:
        return self.what, self.arguments


class _Stated(_Runs):
    def __reduce__(self) -> Any:
        what, *state = self.arguments
        return what, (("f8", False, True) if what is np.dtype else ()), tuple(state)


def _hidden(*, names: Any = None, flags: int = 0, what: Any = np.dtype) -> _Stated:
    """A plain dtype whose state says that it is something else; bytes would be taken for pointers."""
    return _Stated(None, what, 3, "|", None, names, {"a": (np.dtype("f8"), 0)} if names else None, 8, 1, flags)


@pytest.mark.parametrize(
    ("held", "told"),
    [
        pytest.param(lambda folder: _Runs(os.mkdir, str(folder / "made")), r"posix\.mkdir", id="a system call"),
        pytest.param(lambda folder: _Runs(eval, f"open({str(folder / 'made')!r}, 'w')"), r"builtin.*\.eval", id="eval"),
        pytest.param(lambda folder: folder, "pathlib", id="a path"),
        pytest.param(lambda folder: np.array([{}, None]), "dtype", id="an array of objects"),
        pytest.param(lambda folder: np.zeros(2, [("a", "i4")]), "dtype", id="an array of records"),
        pytest.param(lambda folder: _Runs(getattr, {}, "keys"), r"builtin.*\.getattr", id="getattr"),
        pytest.param(lambda folder: _Runs(np.dtype, "f8,O", False, True), "dtype 'f8,O'", id="a record with an object"),
        pytest.param(lambda folder: _Runs(np.dtype, "3f8", False, True), "dtype '3f8'", id="a dtype of arrays"),
        pytest.param(lambda folder: _hidden(names=("a",)), "a state that is not plain", id="hidden fields"),
        pytest.param(lambda folder: _hidden(flags=27), "a state that is not plain", id="flags of objects"),
        pytest.param(lambda folder: _hidden(what=set), "set a state that is not plain", id="a state of a container"),
        pytest.param(lambda folder: _Runs(bytearray, 10**12), "bytearray of int", id="memory for nothing"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_that_is_more_than_data_is_refused_and_does_nothing(
    tmp_path: Path, held: Any, told: str, protocol: int
) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([held(tmp_path)], protocol))
    with pytest.raises(UnsafePickle, match=told):
        read_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x05", pickle.dumps([1, 2])[:-3]])
def test_a_broken_pickle_is_an_error_of_the_data(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pkl"):
        read_pickle(tmp_path / "a.pkl")


def mmaction(joints: int = 17) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    annotations = [
        {
            "frame_dir": f"v{number}",
            "label": number % 2,
            "total_frames": 4 + number,
            "keypoint": rng.random((2, 4 + number, joints, 2)).astype(np.float16),
            "keypoint_score": rng.random((2, 4 + number, joints)).astype(np.float16),
        }
        for number in range(3)
    ]
    return {"split": {"sub1_train": ["v0", "v1"], "sub1_test": ["v2"]}, "annotations": annotations}


def test_mmaction_keeps_persons_scores_labels_and_the_published_split(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(mmaction()))
    found = open_skeletons(tmp_path / "a.pkl", joint_set("coco17"), classes=("sit", "run"))
    assert [one.split for one in found.sequences] == ["train", "train", "test"]
    assert [one.label for one in found.sequences] == ["sit", "run", "sit"]
    assert found.sequences[2].coordinates.shape == (2, 6, 17, 2)
    np.testing.assert_allclose(found.sequences[1].confidence, mmaction()["annotations"][1]["keypoint_score"])
    with pytest.raises(JointSetMismatch, match="17 joints, jhmdb15 has 15"):
        open_skeletons(tmp_path / "a.pkl", joint_set("jhmdb15"))
    with pytest.raises(DataError, match="no split 'sub9'; it has sub1"):
        open_skeletons(tmp_path / "a.pkl", joint_set("coco17"), split="sub9")
    with pytest.raises(DataError, match="which joints"):
        open_skeletons(tmp_path / "a.pkl")


def test_mmaction_clips_without_persons_are_kept_and_others_are_named(tmp_path: Path) -> None:
    held, path = mmaction(), tmp_path / "a.pkl"
    held["annotations"][0]["keypoint"] = np.zeros((0, 4, 17, 2), np.float16)
    held["annotations"][0]["keypoint_score"] = np.zeros((0, 4, 17), np.float16)
    held["annotations"][1]["keypoint"][0, 0, 3] = np.nan
    held["annotations"][1]["img_shape"] = (240, 320)
    path.write_bytes(pickle.dumps(held))
    found = open_skeletons(path, joint_set("coco17"))
    assert found.sequences[0].coordinates.shape == (1, 4, 17, 2)
    assert not found.sequences[0].confidence.any()
    assert found.sequences[1].confidence[0, 0, 3] == 0
    assert [one.size for one in found.sequences] == [None, (240, 320), None]
    save_skeletons(found, tmp_path / "a.npz")
    again = load_skeletons(tmp_path / "a.npz")
    assert [one.size for one in again.sequences] == [None, (240, 320), None]
    for change, told in (
        ({"keypoint": np.zeros((1, 0, 17, 2))}, "has no frames"),
        ({"keypoint": np.zeros((1, 4, 17))}, "expected"),
        ({"keypoint_score": np.zeros((1, 4, 17))}, "keypoint_score"),
    ):
        path.write_bytes(pickle.dumps({"annotations": [mmaction()["annotations"][0] | change]}))
        with pytest.raises(DataError, match=told):
            open_skeletons(path, joint_set("coco17"))
    path.write_bytes(pickle.dumps([mmaction()["annotations"][0], 7]))
    with pytest.raises(DataError, match="annotations that are no dict"):
        open_skeletons(path, joint_set("coco17"))
    path.write_bytes(pickle.dumps([mmaction()["annotations"][0] | {"label": "sit"}]))
    with pytest.raises(DataError, match="no numbers of classes: sit"):
        open_skeletons(path, joint_set("coco17"), classes=("sit", "run"))


def keypoints(x: float, *, hidden: int | None = None) -> list[float]:
    points = np.column_stack([np.full(17, x), np.arange(17.0), np.full(17, 2)])
    if hidden is not None:
        points[hidden] = 0
    return [float(value) for value in points.ravel()]


def test_posetrack_follows_tracks_through_a_video(tmp_path: Path) -> None:
    held = {
        "images": [{"id": 10 + n, "vid_id": "000001", "frame_id": n, "file_name": f"{n}.jpg"} for n in (2, 0, 1)],
        "annotations": [
            {"id": 1, "image_id": 10, "track_id": 7, "keypoints": keypoints(1.0)},
            {"id": 2, "image_id": 12, "track_id": 7, "keypoints": keypoints(3.0, hidden=4)},
            {"id": 3, "image_id": 12, "track_id": 9, "keypoints": keypoints(5.0)},
        ],
        "categories": [{"name": "person", "keypoints": list(joint_set("posetrack17").joints)}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(held))
    found = open_skeletons(path)
    assert found.joints == joint_set("posetrack17")
    (only,) = found.sequences
    assert only.coordinates[..., 0, 0].tolist() == [[1, 0, 3], [0, 0, 5]]
    assert only.confidence[..., 4].tolist() == [[1, 0, 0], [0, 0, 1]]
    with pytest.raises(JointSetMismatch):
        open_skeletons(path, joint_set("coco17"))
    held["annotations"][2].pop("track_id")  # type: ignore[attr-defined]
    held["annotations"][1].pop("track_id")  # type: ignore[attr-defined]
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match="2 persons without track_id"):
        open_skeletons(path)


def test_coco_gives_each_image_with_a_person(tmp_path: Path) -> None:
    held = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in range(3)],
        "annotations": [{"id": n, "image_id": n // 2, "keypoints": keypoints(n)} for n in range(3)],
    }
    (tmp_path / "a.json").write_text(json.dumps(held))
    found = open_skeletons(tmp_path / "a.json", joint_set("coco17"))
    assert [one.coordinates.shape[:2] for one in found.sequences] == [(2, 1), (1, 1)]
    with pytest.raises(JointSetMismatch, match="51 numbers, ntu25 takes"):
        open_skeletons(tmp_path / "a.json", joint_set("ntu25"))


def test_coco_images_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    held: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{'ab'[n]}/1.jpg", "height": 20, "width": 30} for n in range(2)],
        "annotations": [{"id": n, "image_id": n, "keypoints": keypoints(n)} for n in range(2)],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(held))
    found = open_skeletons(path, joint_set("coco17"))
    assert [(one.name, one.size) for one in found.sequences] == [("a/1", (20, 30)), ("b/1", (20, 30))]
    held["annotations"][0]["keypoints"] = ["x"] * 51
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match="keypoints that are no numbers"):
        open_skeletons(path, joint_set("coco17"))
    held["images"][1]["id"] = 0
    path.write_text(json.dumps(held))
    with pytest.raises(DataError, match="2 images have 1 numbers"):
        open_skeletons(path, joint_set("coco17"))


def ntu_text(frames: list[list[str]]) -> str:
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [f"{body} 0 1 1 0 0 0 0.1 0.2 2", "25"]
            lines += [f"{joint}.5 {len(body)} 3 0 0 {900 + joint} {joint} 0 0 0 0 {joint % 3}" for joint in range(25)]
    return "\n".join(lines) + "\n"


def test_ntu_tells_bodies_performer_and_action(tmp_path: Path) -> None:
    path = tmp_path / "S001C002P003R002A013.skeleton"
    path.write_text(ntu_text([["7205"], ["7205", "99"], []]))
    (only,) = open_skeletons(path).sequences
    assert (only.label, only.group) == ("A013", "P003")
    assert only.coordinates.shape == (2, 3, 25, 3)
    assert only.confidence[0, 0, :3].tolist() == [0, 0.5, 1]
    assert only.confidence[:, :, 2].tolist() == [[1, 1, 0], [0, 1, 0]]
    assert only.coordinates[0, 1, 2].tolist() == [2.5, 4, 3]
    (flat,) = open_skeletons(path, in_picture=True).sequences
    assert flat.size == (1080, 1920)
    assert flat.coordinates[0, 1, 2].tolist() == [902, 2]
    assert (flat.confidence == only.confidence).all()
    path.write_text(ntu_text([["7205"]])[:-40])
    with pytest.raises(DataError, match="breaks off"):
        open_skeletons(path)
    path.write_text(ntu_text([[]]))
    with pytest.raises(DataError, match="shows nobody"):
        open_skeletons(path)


def test_the_table_of_a_pose_model_is_a_file_of_skeletons(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    names = joint_set("lsp14").joints

    def write(rows: list[tuple[int, str, float]], **more: Any) -> Path:
        table = pandas.DataFrame(rows, columns=["frame", "track", "seconds"]).assign(person=0)
        values = {f"{name}_{part}": float(at) for at, name in enumerate(names) for part in ("x", "y", "score")}
        (tmp_path / "poses").mkdir(exist_ok=True)
        table.assign(**values).to_parquet(tmp_path / "poses" / "a.b.parquet")
        (tmp_path / "poses" / "a.b.json").write_text(json.dumps({"frames": 5, "size": [48, 64], **more}))
        return tmp_path / "poses" / "a.b.parquet"

    path = write([(0, "x", 0.0), (1, "x", 0.1), (1, "y", 0.1), (3, "y", 0.3)])
    (only,) = gather([path.parent]).sequences  # the JSON beside it is no file of its own
    assert only.coordinates.shape == (2, 5, 14, 2)
    assert (only.confidence > 0).any(2).tolist() == [
        [True, True, False, False, False],
        [False, True, False, True, False],
    ]
    assert only.size == (48, 64)
    assert only.times is not None
    np.testing.assert_array_equal(np.isfinite(only.times), [True, True, False, True, False])
    assert open_skeletons(path).joints == joint_set("lsp14")
    with pytest.raises(JointSetMismatch):
        open_skeletons(path, joint_set("coco17"))
    with pytest.raises(DataError, match="frame 1 shows 2 persons without a track"):
        open_skeletons(write([(0, "", 0.0), (1, "", 0.1), (1, "", 0.1)]))
    with pytest.raises(DataError, match="track x stands twice in frame 1"):
        open_skeletons(write([(1, "x", 0.1), (1, "x", 0.1)]))
    with pytest.raises(DataError, match="shows nobody"):
        open_skeletons(write([]))
    with pytest.raises(DataError, match=r"tells of 5 frames, but a\.b\.parquet of frame 9"):
        open_skeletons(write([(9, "", 0.9)]))
    with pytest.raises(DataError, match="is not what a pose model leaves"):
        open_skeletons(write([(0, "", 0.0)], size="large"))
    pandas.DataFrame({"path": ["x"]}).to_parquet(path)
    with pytest.raises(DataError, match="no table of joints"):
        open_skeletons(path)
    path.write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_skeletons(path)


def test_files_of_different_joints_cannot_be_gathered(tmp_path: Path) -> None:
    save_skeletons(some_set(), tmp_path / "a.npz")
    (tmp_path / "S001C002P003R002A013.skeleton").write_text(ntu_text([["1"]]))
    with pytest.raises(JointSetMismatch):
        gather([tmp_path])
    with pytest.raises(DataError, match="no reader for"):
        open_skeletons(tmp_path / "a.txt")


def test_a_table_says_what_clips_show(tmp_path: Path) -> None:
    found = some_set()
    silent = SkeletonSet(found.joints, tuple(replace(one, label="", group="", split="") for one in found.sequences))
    first, *others = (one.name for one in silent.sequences)
    (tmp_path / "classes.csv").write_text(f"clip,class,group,split\n{first},run,anna,test\n")
    labelled = label_clips(silent, tmp_path / "classes.csv")
    told = {one.name: (one.label, one.group, one.split) for one in labelled.sequences}
    assert told == {first: ("run", "anna", "test")} | dict.fromkeys(others, ("", "", ""))
    assert labelled.classes == ("run",)
    save_skeletons(labelled, tmp_path / "clips.npz")
    assert load_skeletons(tmp_path / "clips.npz").sequences[0].label == "run"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        pytest.param("clip,class\ngone,run\n", "not among the 3 clips: gone", id="a clip that is not there"),
        pytest.param("clip,class\n{0},run\n{0},walk\n", "line 3: the clip {0} stands there twice", id="twice"),
        pytest.param("clip,action\n{0},run\n", "no column class; it has clip, action", id="no classes"),
        pytest.param("clip,class\n{0},\n", "line 2: no class", id="an empty class"),
        pytest.param("clip,class,split\n{0},run,dev\n", "no split 'dev'; use train", id="another split"),
        pytest.param("clip,class\n{0},other\n", "{0} is of class other, but its file says", id="a contradiction"),
    ],
)
def test_a_table_that_does_not_fit_the_clips_is_refused(tmp_path: Path, table: str, told: str) -> None:
    found = some_set()
    clip = next(one.name for one in found.sequences if one.label)
    (tmp_path / "classes.csv").write_text(table.format(clip))
    with pytest.raises(DataError, match=told.format(clip)):
        label_clips(found, tmp_path / "classes.csv")


def test_the_given_clips_are_read_in_the_order_of_jhmdb() -> None:
    root = data_root()
    path = root / "jhmdb_skeleton" / "train.npz" if root else None
    if path is None or not path.is_file():
        pytest.skip("the set jhmdb_skeleton is not there (PULVINAR_DATA)")
    found = load_skeletons(path, joint_set("jhmdb15"))
    assert len(found.sequences) == 433
    mean = np.concatenate([one.coordinates[0] for one in found.sequences]).mean(0)
    height = dict(zip(found.joints.joints, mean[:, 1], strict=True))
    # Rows count downwards: the order of the body from top to bottom, both sides alike.
    assert height["face"] < height["neck"] < height["belly"]
    for side in ("left", "right"):
        assert height[f"{side}_shoulder"] < height[f"{side}_hip"] < height[f"{side}_knee"] < height[f"{side}_ankle"]
