"""Layouts of benchmarks, folders and tables, in tiny trees."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from domains.reid.data.cases import case_table, read_records
from domains.reid.data.settings import DataSettings
from pipelines.errors import DataError, SplitLeakError
from pipelines.splits import SplitSettings, draw_splits

SHADES = itertools.count()


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = next(SHADES)
    Image.fromarray(np.full((8, 6, 3), (shade % 256, shade // 256, 7), dtype=np.uint8)).save(path)
    return path


def read(root: Path, **settings):
    return read_records(TypeAdapter(DataSettings).validate_python({"root": str(root), **settings}))


def read_table(file: Path):
    return read_records(TypeAdapter(DataSettings).validate_python({"format": "csv", "file": str(file)}))


def told(records) -> set[tuple[str, ...]]:
    return {(one.identity, one.camera, one.part, one.role) for one in records.used}


def test_market_skips_junk_and_keeps_distractors_in_the_gallery(tmp_path):
    for name in (
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0007_c3s1_000651_00.jpg",
        "bounding_box_test/0007_c1s1_000451_02.jpg",
        "bounding_box_test/0000_c4s1_000451_02.jpg",
        "bounding_box_test/-1_c2s1_000451_02.jpg",
        "bounding_box_test/strange.jpg",
        "bounding_box_test/copy/0007_c1s1_000451_02.jpg",
    ):
        picture(tmp_path / name)
    (tmp_path / "bounding_box_test" / "Thumbs.db").write_text("no picture")
    records = read(tmp_path, format="market1501")
    assert told(records) == {
        ("0002", "1", "train", ""),
        ("0007", "3", "test", "query"),
        ("0007", "1", "test", "gallery"),
        ("", "4", "test", "gallery"),
    }
    report = records.report()
    assert report["found"] == 6
    assert report["distractors"] == 1
    assert report["other files"] == {".db": 1}
    assert report["identities seen by one camera"] == 1
    assert report["identities with one picture"] == 1
    assert report["skipped"] == {
        "junk picture, which the benchmark does not judge": 1,
        "the name is not one of this benchmark": 1,
    }
    table = case_table(records, group="identity")
    # Junk is left out by the benchmark itself: there is nothing to mend.
    assert {item.case_id: item.expected for item in table.excluded} == {
        "bounding_box_test/-1_c2s1_000451_02.jpg": True,
        "bounding_box_test/strange.jpg": False,
    }
    assert {case.group for case in table if case.split == "test"} >= {"0007"}


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("dukemtmc", ("bounding_box_train/0001_c2_f1.jpg", "query/0005_c2_f2.jpg", "bounding_box_test/0005_c5_f3.jpg")),
        ("veri776", ("image_train/0001_c001_01_0.jpg", "image_query/0005_c2_3_0.jpg", "image_test/0005_c005_3_1.jpg")),
    ],
)
def test_duke_and_veri_read_their_names(tmp_path, layout, names):
    for name in names:
        picture(tmp_path / name)
    assert told(read(tmp_path, format=layout)) >= {("0005", "2", "test", "query"), ("0005", "5", "test", "gallery")}


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt_identities_of_training_and_test_are_not_the_same(tmp_path, folders):
    for folder in folders:
        picture(tmp_path / folder / "0000/0000_000_01_0303morning_0015_0.jpg")
    picture(tmp_path / folders[1] / "0000/0000_001_14_0303morning_0022_1.jpg")
    one, other = "0000/0000_000_01_0303morning_0015_0.jpg 0\n", "0000/0000_001_14_0303morning_0022_1.jpg 0\n"
    (tmp_path / "list_train.txt").write_text(one)
    (tmp_path / "list_val.txt").write_text("0000/missing_000_02_x.jpg 0\n")
    (tmp_path / "list_query.txt").write_text(one)
    (tmp_path / "list_gallery.txt").write_text(other)
    records = read(tmp_path, format="msmt17")
    assert told(records) == {
        ("train-0", "1", "train", ""),
        ("test-0", "1", "test", "query"),
        ("test-0", "14", "test", "gallery"),
    }
    assert list(records.skipped.values()) == ["listed in list_val.txt, but there is no such file"]


def test_vehicleid_draws_one_gallery_picture_for_each_vehicle(tmp_path):
    for number in range(9):
        picture(tmp_path / "image" / f"{number:07d}.jpg")
    lists = tmp_path / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0000000 9\n0000001 9\n")
    (lists / "test_list_800.txt").write_text("".join(f"{number:07d} {number % 2}\n" for number in range(2, 9)))
    galleries = set()
    for seed in range(4):
        records = read(tmp_path, format="vehicleid", gallery_seed=seed)
        drawn = [one for one in records.used if one.role == "gallery"]
        assert sorted(one.identity for one in drawn) == ["0", "1"]
        assert sum(one.role == "query" for one in records.used) == 5
        galleries.add(tuple(one.name for one in drawn))
    assert len(galleries) > 1


def cub(root: Path) -> Path:
    names = ["001.Black/a.jpg", "001.Black/b.jpg", "002.White/c.jpg", "002.White/d.jpg"]
    for name in names:
        picture(root / "images" / name)
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (root / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 2\n")
    (root / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n4 0\n")
    (root / "classes.txt").write_text("1 001.Black\n2 002.White\n")
    return root


def test_cub_divides_pictures_or_classes(tmp_path):
    root = cub(tmp_path)
    by_picture = case_table(read(root, format="cub"), group="image")
    assert [case.split for case in by_picture] == ["train", "test", "train", "test"]
    by_class = case_table(read(root, format="cub", parts="classes"), group="identity")
    assert [case.split for case in by_class] == ["train", "train", "test", "test"]
    leaking = case_table(read(root, format="cub"), group="identity")
    with pytest.raises(SplitLeakError, match=r"001\.Black"):
        draw_splits(leaking, SplitSettings(validation=0), seed=0)


def test_patterns_tell_identity_camera_and_attributes(tmp_path):
    for name in ("images/truck_0001_cam1.jpg", "images/truck_0001_cam2.jpg", "images/bus_0001_cam1.jpg", "notes/x.jpg"):
        picture(tmp_path / name)
    records = read(
        tmp_path, format="identities", pattern="images/{type}_{number}_cam{camera}.jpg", identity="{type}_{number}"
    )
    assert told(records) == {("truck_0001", "1", "", ""), ("truck_0001", "2", "", ""), ("bus_0001", "1", "", "")}
    assert {one.attributes["type"] for one in records.used} == {"truck", "bus"}
    assert all("number" not in one.attributes for one in records.used)
    assert list(records.skipped) == ["notes/x.jpg"]


def test_a_running_number_tells_the_class(tmp_path):
    for number in (1, 80, 81, 160, 161):
        picture(tmp_path / f"jpg/image_{number:04d}.jpg")
    records = read(tmp_path, format="identities", pattern="jpg/image_{number}.jpg", numbered=80)
    assert [one.identity for one in records.used] == ["000", "000", "001", "001", "002"]


def test_labels_do_not_depend_on_folders(tmp_path):
    from domains.reid.plan import identity_names

    for first, second in (("a", "z"), ("z", "a")):
        root = tmp_path / first
        picture(root / first / "p1_1.jpg")
        picture(root / second / "p2_1.jpg")
        records = read(root, format="identities", pattern="*/{identity}_{camera}.jpg")
        assert identity_names(case_table(records, group="identity").cases) == ["p1", "p2"]


def test_a_table_gives_all_it_knows(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        picture(tmp_path / name)
    (tmp_path / "table.csv").write_text(
        "path,identity,camera,split,colour\na.jpg,7,1,train,red\nb.jpg,8,2,query,\nc.jpg,8,3,gallery,blue\n"
        "d.jpg,,1,gallery,\nmissing.jpg,9,1,train,\n"
    )
    records = read_records(
        TypeAdapter(DataSettings).validate_python({"format": "csv", "file": str(tmp_path / "table.csv")})
    )
    assert told(records) == {
        ("7", "1", "train", ""),
        ("8", "2", "test", "query"),
        ("8", "3", "test", "gallery"),
        ("", "1", "test", "gallery"),
    }
    assert records.used[0].attributes == {"colour": "red"}
    assert list(records.skipped) == ["missing.jpg"]


def test_a_wrong_table_is_told_by_row(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "table.csv").write_text(
        "path,identity,split,role\na.jpg,1,sometimes,\n,2,train,\nb.jpg,,train,\na.jpg,1,train,\nc.jpg,1,,boss\n"
    )
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "table.csv")
    for line in (
        "line 2: unknown split 'sometimes'",
        "line 3: no path",
        "line 4: no identity",
        "line 5: a.jpg stands in line 2 already",
        "line 6: unknown role 'boss'",
    ):
        assert line in str(caught.value)


def test_a_missing_folder_and_a_pattern_that_fits_nothing_say_what_is_there(tmp_path):
    with pytest.raises(DataError, match="'bounding_box_train' is not in"):
        read(tmp_path, format="market1501")
    picture(tmp_path / "x" / "1.jpg")
    with pytest.raises(DataError, match=r"there are: x/1\.jpg"):
        read(tmp_path, format="identities", pattern="{identity}_{camera}.jpg")
    with pytest.raises(DataError, match="does not tell the identity"):
        read(tmp_path, format="identities", pattern="x/{camera}.jpg")
    with pytest.raises(ValidationError, match="no placeholder"):
        read(tmp_path, format="identities", pattern="x.jpg")


def test_linked_folders_are_followed_once_and_dead_links_are_told(tmp_path):
    picture(tmp_path / "elsewhere" / "1.jpg")
    root = tmp_path / "set"
    picture(root / "anna" / "1.JPG")
    (root / "ben").symlink_to(tmp_path / "elsewhere")
    (root / "anna" / "back").symlink_to(root)
    (root / "anna" / "2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("notes.txt", "3.gif", ".hidden.jpg"):
        (root / "anna" / name).write_text("no picture")
    records = read(root, format="identities", pattern="{identity}/*")
    assert [one.name for one in records.used] == ["anna-1", "ben-1"]
    assert records.skipped == {"anna/2.jpg": "a link that leads nowhere"}
    assert records.report()["other files"] == {".gif": 1, ".txt": 1}


def test_names_with_spaces_other_alphabets_and_leading_zeros_stay_apart(tmp_path):
    for name in ("007/a.jpg", "7/a.jpg", "ann b/a 1.jpg", "Jörg/ü.jpg", "雪/一.png"):
        picture(tmp_path / name)
    table = case_table(read(tmp_path, format="identities", pattern="{identity}/*"), group="identity")
    assert {case.group for case in table} == {"007", "7", "ann b", "Jörg", "雪"}


def test_two_pictures_of_one_name_are_both_told(tmp_path):
    picture(tmp_path / "a" / "1.jpg")
    picture(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"the name 'a-1': a/1\.jpg and a/1\.png"):
        case_table(read(tmp_path, format="identities", pattern="{identity}/*"), group="identity")


def test_veri_tells_colour_and_type_where_its_labels_are_there(tmp_path):
    names = ("image_train/0001_c001_01_0.jpg", "image_query/0005_c002_3_0.jpg", "image_test/0005_c005_3_1.jpg")
    for name in names:
        picture(tmp_path / name)
    items = '<Item imageName="0001_c001_01_0.jpg" vehicleID="0001" cameraID="c001" colorID="8" typeID="4" />'
    text = f'<?xml version="1.0" encoding="gb2312"?>\n<TrainingImages><Items>{items}</Items></TrainingImages>'
    (tmp_path / "train_label.xml").write_bytes(text.encode("gb2312"))
    told_of = {one.identity: one.attributes for one in read(tmp_path, format="veri776").used}
    assert told_of == {"0001": {"colour": "8", "type": "4"}, "0005": {}}
    (tmp_path / "test_label.xml").write_text("<TestImages><Items>")
    with pytest.raises(DataError, match=r"test_label\.xml cannot be read as XML"):
        read(tmp_path, format="veri776")


def test_cub_takes_names_with_blanks_and_refuses_text_of_another_encoding(tmp_path):
    root = cub(tmp_path)
    (root / "classes.txt").write_text("1 001.Black footed\n2 002.White\n")
    assert {one.identity for one in read(root, format="cub").used} == {"001.Black footed", "002.White"}
    (root / "classes.txt").write_bytes("1 Käuzchen\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"classes\.txt is not UTF-8"):
        read(root, format="cub")


def test_a_table_is_read_as_spreadsheets_write_it(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / name)
    rows = "\ufeffpath;identity;camera\na.jpg;7;1\nb.jpg;8;2\n;;\n"
    (tmp_path / "table.csv").write_text(rows, encoding="utf-8")
    assert told(read_table(tmp_path / "table.csv")) == {("7", "1", "", ""), ("8", "2", "", "")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,identity\na.jpg,M\xfcller\n", "is not UTF-8"),
        (b"path,identity\na.jpg,1,2\n", "line 2: 3 cells, the header has 2"),
        (b"path,identity,identity\n", "column 'identity' stands twice"),
        (b"Path,Identity\n", "no column 'path'; it has Path, Identity"),
        (b"path,identity\n", "the table has no rows"),
        (b"", "no column 'path'; it has none"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "table.csv")


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    import os

    for name in ("b/2.jpg", "a/1.jpg", "a/0.jpg", "c/9.jpg"):
        picture(tmp_path / name)
    forwards = read(tmp_path, format="identities", pattern="{identity}/*").used
    walk = os.walk

    def backwards(top, **options):
        for current, folders, names in walk(top, **options):
            folders.reverse()
            yield current, folders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert read(tmp_path, format="identities", pattern="{identity}/*").used == forwards
