"""An index is written whole, checked when it is read, searched by its own model only, and deleted whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from domains.reid.index.embedding_files import StoredEmbeddings
from domains.reid.index.gallery import GalleryIndex, check_deletable, delete_index, read_index, write_index
from domains.reid.index.operating_point import gallery_threshold
from domains.reid.index.search import UNKNOWN, search_gallery
from pipelines.errors import ConfigurationError, DataError


def stored(
    values: Any, identities: list[str], cameras: list[str] | None = None, *, digest: str = "model", name: str = "image"
) -> StoredEmbeddings:
    items = [f"{name}{at}" for at in range(len(identities))]
    table = pd.DataFrame(
        {
            "item": items,
            "source": [f"{item}.png" for item in items],
            "identity": identities,
            "camera": cameras or [""] * len(items),
        }
    )
    return StoredEmbeddings(np.asarray(values, dtype=np.float32), table, digest)


def drawn(count: int, *, seed: int = 0, channels: int = 8, **more: Any) -> StoredEmbeddings:
    generator = np.random.default_rng(seed)
    identities = [f"p{at}" for at in generator.integers(0, max(2, count // 4), count)]
    cameras = [str(at) for at in generator.integers(1, 4, count)]
    return stored(generator.normal(size=(count, channels)), identities, cameras, **more)


@pytest.fixture
def index(tmp_path: Path) -> GalleryIndex:
    """Three people at right angles; the first was seen by two cameras."""
    values = [[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]]
    return write_index(tmp_path / "index", stored(values, ["anna", "anna", "ben", "cleo"], ["1", "2", "1", "2"]))


def test_an_index_read_again_is_the_one_that_was_written(tmp_path: Path) -> None:
    gallery = drawn(50)
    write_index(tmp_path / "index", gallery, model=tmp_path / "model", images=tmp_path / "images")
    again = read_index(tmp_path / "index")
    unit = gallery.embeddings / np.linalg.norm(gallery.embeddings, axis=1, keepdims=True)
    np.testing.assert_allclose(again.embeddings, unit, atol=1e-6)
    columns = ["item", "identity", "camera", "source"]
    assert again.table[columns].equals(gallery.table[columns])
    assert (again.model_digest, again.threshold) == ("model", None)
    assert again.place("model") == tmp_path / "model"
    assert again.place("images") == tmp_path / "images"
    assert (again.record["images_indexed"], again.record["cameras"]) == (50, 3)
    assert str(tmp_path) not in (tmp_path / "index" / "index.yaml").read_text()
    assert (tmp_path / "index").stat().st_mode & 0o077 == 0


def test_the_nearest_come_first_and_their_identity_is_the_answer(index: GalleryIndex) -> None:
    found = search_gallery(index, stored([[1, 0.01, 0]], [""], name="query"), top=3)[0]
    assert [hit.item for hit in found.hits] == ["image0", "image1", "image2"]
    assert [hit.rank for hit in found.hits] == [1, 2, 3]
    assert found.hits[0].score == pytest.approx(1 / np.hypot(1, 0.01), abs=1e-6)
    assert (found.answer, found.hits[0].status) == ("anna", "")


def test_hits_are_right_wrong_or_junk_where_the_query_is_known(index: GalleryIndex) -> None:
    found = search_gallery(index, stored([[1, 0.2, 0.1]], ["anna"], ["1"], name="query"), top=9)[0]
    assert [(hit.item, hit.status, hit.rank) for hit in found.hits] == [
        ("image1", "right", 1),
        ("image0", "junk", 2),
        ("image2", "wrong", 2),
        ("image3", "wrong", 3),
    ]


def test_an_answer_does_not_rest_on_junk(index: GalleryIndex) -> None:
    found = search_gallery(index, stored([[1, 0, 0]], ["anna"], ["1"], name="query"), threshold=0.999)[0]
    assert (found.hits[0].status, found.answer) == ("junk", UNKNOWN)


@pytest.mark.parametrize(("threshold", "answer"), [(None, "anna"), (0.7, "anna"), (0.8, UNKNOWN)])
def test_below_the_threshold_nobody_is_recognised(index: GalleryIndex, threshold: float | None, answer: str) -> None:
    found = search_gallery(index, stored([[1, 0.1, 0.9]], [""], name="query"), threshold=threshold)[0]
    assert found.hits[0].score == pytest.approx(0.745, abs=1e-3)
    assert found.answer == answer


def test_the_threshold_of_the_index_holds_unless_another_is_given(tmp_path: Path, index: GalleryIndex) -> None:
    query = stored([[1, 0.1, 0.9]], [""], name="query")
    strict = write_index(
        tmp_path / "strict", stored(index.embeddings, ["a", "a", "b", "c"]), threshold={"threshold": 0.8}
    )
    assert search_gallery(read_index(strict.folder), query)[0].answer == UNKNOWN
    assert search_gallery(strict, query, threshold=0.5)[0].answer == "a"


def test_cameras_are_filtered(index: GalleryIndex) -> None:
    query = stored([[1, 0, 0]], [""], name="query")
    assert [hit.item for hit in search_gallery(index, query, cameras=["2"])[0].hits] == ["image1", "image3"]
    assert [hit.item for hit in search_gallery(index, query, without_cameras=["1"])[0].hits] == ["image1", "image3"]
    with pytest.raises(ConfigurationError, match="no camera 7 in the gallery; its cameras are: 1, 2"):
        search_gallery(index, query, cameras=["7"])
    with pytest.raises(ConfigurationError, match="leave no image"):
        search_gallery(index, query, cameras=["1"], without_cameras=["1"])


@pytest.mark.parametrize("digest", ["other", ""])
def test_queries_of_another_model_are_refused(index: GalleryIndex, digest: str) -> None:
    with pytest.raises(DataError, match="embedded by another model than the gallery"):
        search_gallery(index, stored([[1, 0, 0]], [""], digest=digest))


def test_queries_of_other_channels_are_refused(index: GalleryIndex) -> None:
    with pytest.raises(DataError, match="2 channels, the gallery has 3"):
        search_gallery(index, stored([[1, 0]], [""]))


def test_exact_search_equals_sorting_all_scores(tmp_path: Path) -> None:
    gallery, queries = drawn(400), drawn(30, seed=1, name="query")
    index = write_index(tmp_path / "index", gallery)
    found = search_gallery(index, queries, top=12)
    left = queries.embeddings / np.linalg.norm(queries.embeddings, axis=1, keepdims=True)
    for scores, result in zip(left @ index.embeddings.T, found, strict=True):
        order = np.argsort(-scores, kind="stable")[:12]
        assert [hit.item for hit in result.hits] == [f"image{at}" for at in order]


def test_equal_scores_come_in_the_order_of_the_gallery(tmp_path: Path) -> None:
    index = write_index(tmp_path / "index", stored([[0, 1], [1, 0], [1, 0], [1, 0]], list("abcd")))
    assert search_gallery(index, stored([[1, 0]], [""]), top=2)[0].hits[1].item == "image2"


def test_the_approximate_index_finds_nearly_all_and_obeys_filters(tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="needs faiss: pip install 'pulvinar[search]'")
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(60, 16))
    which = generator.integers(0, 60, 3000)
    values = centres[which] + 0.3 * generator.normal(size=(3000, 16))
    cameras = [str(at) for at in generator.integers(1, 4, 3000)]
    gallery = stored(values, [f"p{at}" for at in which], cameras)
    index = write_index(tmp_path / "index", gallery, approximate_from=1000)
    assert index.record["approximate"]["recall_at_10"] > 0.9
    opened = read_index(tmp_path / "index")
    queries = stored(values[:40] + 0.05, [""] * 40, name="query")
    exact = search_gallery(opened, queries, exact=True, cameras=["2"])
    found = search_gallery(opened, queries, cameras=["2"])
    assert {hit.camera for result in found for hit in result.hits} == {"2"}
    pairs = zip(exact, found, strict=True)
    shared = [len({h.item for h in left.hits} & {h.item for h in right.hits}) for left, right in pairs]
    assert np.mean(shared) > 9
    assert found[0].hits[0].score == pytest.approx(exact[0].hits[0].score, abs=1e-5)


def test_small_galleries_have_no_approximate_index(index: GalleryIndex) -> None:
    assert index.record["approximate"] is None


@pytest.mark.parametrize("name", ["embeddings.safetensors", "gallery.parquet"])
def test_damaged_and_incomplete_indexes_are_refused(index: GalleryIndex, name: str) -> None:
    path = index.folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"not what index\.yaml was written for"):
        read_index(index.folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read_index(index.folder)


def test_another_version_is_refused(index: GalleryIndex) -> None:
    record = yaml.safe_load((index.folder / "index.yaml").read_text())
    (index.folder / "index.yaml").write_text(yaml.safe_dump({**record, "format": 9}))
    with pytest.raises(DataError, match="index of format 9"):
        read_index(index.folder)


def test_an_index_is_replaced_and_anything_else_is_not(tmp_path: Path, index: GalleryIndex) -> None:
    write_index(index.folder, drawn(9))
    assert len(read_index(index.folder)) == 9
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="is there and is no index"):
        write_index(tmp_path / "mine", drawn(9))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_nothing_is_left_of_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 5 rows are the same"):
        write_index(tmp_path / "index", stored(np.ones((5, 3)), list("abcde")))
    assert list(tmp_path.iterdir()) == []


def test_an_index_is_deleted_whole(tmp_path: Path, index: GalleryIndex) -> None:
    assert delete_index(index.folder) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index_is_deleted_too(tmp_path: Path, index: GalleryIndex) -> None:
    (index.folder / "embeddings.safetensors").write_bytes(b"")
    delete_index(index.folder)
    assert list(tmp_path.iterdir()) == []


def _without_record(folder: Path) -> Path:
    (folder / "index.yaml").unlink()
    return folder


def _of_another_kind(folder: Path) -> Path:
    (folder / "index.yaml").write_text("kind: shopping list\n")
    return folder


def _with_a_letter(folder: Path) -> Path:
    (folder / "letter.txt").write_text("dear")
    return folder


def _as_a_link(folder: Path) -> Path:
    link = folder.with_name("link")
    link.symlink_to(folder)
    return link


@pytest.mark.parametrize("change", [_without_record, _of_another_kind, _with_a_letter, _as_a_link])
def test_what_is_no_index_is_not_deleted(index: GalleryIndex, change: Any) -> None:
    folder = change(index.folder)
    before = sorted(path.name for path in index.folder.iterdir())
    for refuse in (check_deletable, delete_index):
        with pytest.raises(DataError):
            refuse(folder)
    assert sorted(path.name for path in index.folder.iterdir()) == before


def test_the_threshold_of_a_gallery_counts_pairs_of_different_cameras() -> None:
    """Two people, two cameras: of each image two others are impostors' and one is genuine by the other camera."""
    values = [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 0.05], [0.05, 1]]
    gallery = stored(values, ["a", "a", "b", "b", "a", "b"], ["1", "2", "1", "2", "1", "2"])
    chosen = gallery_threshold(gallery, 0.2)
    assert (chosen["impostor_pairs"], chosen["genuine_pairs"]) == (18, 8)
    assert chosen["true_match_rate"] == 1.0
    assert 0.1 < chosen["threshold"] < 0.3
    alone = gallery_threshold(stored(values, list("abcdef")), 0.2)
    assert (alone["genuine_pairs"], alone["true_match_rate"]) == (0, None)
    with pytest.raises(DataError, match="a threshold needs identities"):
        gallery_threshold(stored(values, [""] * 6), 0.2)


def test_what_killed_writers_left_is_deleted_with_the_index(tmp_path: Path, index: GalleryIndex) -> None:
    import shutil

    for name in (".index.0123abcd.part", ".index.0123abcd.deleted"):
        shutil.copytree(index.folder, tmp_path / name)
    kept = [".other.0123abcd.part", ".index.0123abcd.part.mine", ".index.mine.part"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / ".index.89abcdef.part").mkdir()
    (tmp_path / ".index.89abcdef.part" / "letter.txt").write_text("mine")
    delete_index(index.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, ".index.89abcdef.part"])
