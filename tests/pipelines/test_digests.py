"""Data digests: by content, independent of order and place, and cached without being fooled."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.cases import Case, CaseTable
from pipelines.digests import data_digest, file_digests, same_content
from pipelines.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PULVINAR_CACHE", str(folder))
    return folder


def settled(path: Path, content: bytes) -> Path:
    """A file last written to a minute ago, so that its digest is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    earlier = path.stat().st_mtime - 60
    os.utime(path, (earlier, earlier))
    return path


def dataset(folder: Path, **contents: bytes) -> CaseTable:
    cases = [Case(name, name, {"image": settled(folder / f"{name}.bin", text)}) for name, text in contents.items()]
    return CaseTable(tuple(cases), folder, "set")


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", b"content")
    expected = hashlib.sha256(b"content").hexdigest()
    assert file_digests([path]) == file_digests([path]) == {path: expected}


def test_order_place_and_parts_make_no_difference_but_content_and_names_do(tmp_path: Path) -> None:
    here = dataset(tmp_path / "here", a=b"1", b=b"2")
    there = dataset(tmp_path / "there", b=b"2", a=b"1")
    assert data_digest(here) == data_digest(there)
    divided = replace(here, cases=tuple(replace(case, split="test", group="g") for case in here))
    assert data_digest(divided) == data_digest(here)
    others = [dataset(tmp_path / "x", a=b"1", b=b"3"), dataset(tmp_path / "y", a=b"2", b=b"1"), here.without(["a"])]
    assert len({data_digest(table) for table in (here, *others)}) == 4


def test_a_file_that_changed_is_read_again_even_with_its_old_time(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", b"first")
    first = file_digests([path])[path]
    before = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert file_digests([path])[path] != first


def test_the_cache_is_used_and_names_no_file(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled(tmp_path / "Jane Doe.bin", b"scan")
    expected = file_digests([path])
    content = b"".join(file.read_bytes() for file in cache.iterdir())
    assert b"Jane" not in content
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert file_digests([path]) == expected


@pytest.mark.parametrize("state", ["broken", "a file in its place"])
def test_a_cache_that_cannot_be_used_is_done_without(tmp_path: Path, cache: Path, state: str) -> None:
    if state == "broken":
        settled(cache / "digests.sqlite", b"not a database" * 100)
    else:
        cache.write_text("in the way")
    path = settled(tmp_path / "a", b"content")
    assert file_digests([path])[path] == hashlib.sha256(b"content").hexdigest()


def test_a_folder_is_what_its_files_hold(tmp_path: Path) -> None:
    for name, order in (("one", "ab"), ("two", "ba")):
        for number, letter in enumerate(order):
            settled(tmp_path / name / f"{number}.dcm", letter.encode())
    settled(tmp_path / "three" / "0.dcm", b"a")
    digests = file_digests([tmp_path / name for name in ("one", "two", "three")])
    assert digests[tmp_path / "one"] == digests[tmp_path / "two"] != digests[tmp_path / "three"]


def test_equal_files_are_found_and_missing_or_empty_ones_passed_over(tmp_path: Path) -> None:
    paths = {name: settled(tmp_path / name, text) for name, text in {"a": b"xy", "b": b"yx", "c": b"xy"}.items()}
    paths |= {name: settled(tmp_path / name, b"") for name in ("d", "e")}
    paths["f"] = tmp_path / "nowhere"
    assert same_content(paths) == [["a", "c"]]


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    table = CaseTable((Case("a", "a", {"image": tmp_path / "gone.nii"}),), tmp_path, "set")
    with pytest.raises(DataError, match=r"^gone\.nii") as caught:
        data_digest(table)
    assert str(tmp_path) not in str(caught.value)
