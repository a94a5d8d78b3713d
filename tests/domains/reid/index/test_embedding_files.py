"""Embeddings on disk: single ones, joined tables, and labels for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from domains.reid.index.embedding_files import (
    StoredEmbeddings,
    holds_embeddings,
    join_embeddings,
    read_embedding,
    read_embeddings,
    write_embeddings,
)
from domains.reid.index.labels import add_labels, labelled_images
from pipelines.errors import ConfigurationError, DataError
from pipelines.task import FinishedItem


def result(folder: Path, name: str, values: list[float]) -> FinishedItem:
    (folder / name).mkdir()
    save_file({"embedding": np.array(values, dtype=np.float32)}, folder / name / f"{name}.safetensors")
    return FinishedItem(name, f"{name}.png", folder / name)


def test_single_results_are_joined_in_the_order_of_their_names(tmp_path: Path) -> None:
    results = [result(tmp_path, "b", [1, 2]), result(tmp_path, "a", [3, 4])]
    (tmp_path / "joined").mkdir()
    join_embeddings(results, tmp_path / "joined", "digest")
    for place in (tmp_path, tmp_path / "joined"):
        assert holds_embeddings(place)
        stored = read_embeddings(place)
        np.testing.assert_array_equal(stored.embeddings, [[3, 4], [1, 2]])
        assert stored.table["item"].tolist() == ["a", "b"]
        assert stored.table["source"].tolist() == ["a.png", "b.png"]
        assert stored.model_digest == "digest"
    np.testing.assert_array_equal(read_embedding(tmp_path / "b"), [1, 2])


def test_nothing_is_joined_of_nothing(tmp_path: Path) -> None:
    join_embeddings([], tmp_path, "digest")
    assert list(tmp_path.iterdir()) == []


def test_results_of_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="b has 3 channels, a has 2"):
        join_embeddings([result(tmp_path, "a", [1, 2]), result(tmp_path, "b", [1, 2, 3])], tmp_path, "")


def test_tables_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    table = pd.DataFrame({"item": ["a", "b"]})
    write_embeddings(tmp_path, StoredEmbeddings(np.eye(3), table))
    with pytest.raises(DataError, match="3 embeddings and 2 rows"):
        read_embeddings(tmp_path)
    write_embeddings(tmp_path, StoredEmbeddings(np.eye(2), pd.DataFrame({"item": ["a", "a"]})))
    with pytest.raises(DataError, match="'a' stands there twice"):
        read_embeddings(tmp_path)
    write_embeddings(tmp_path, StoredEmbeddings(np.full((2, 2), np.nan), table))
    with pytest.raises(DataError, match="NaN"):
        read_embeddings(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match="cannot be read"):
        read_embeddings(tmp_path)
    with pytest.raises(DataError, match="holds no embeddings"):
        read_embeddings(tmp_path / "elsewhere")


def test_numbers_as_labels_and_missing_columns_are_taken(tmp_path: Path) -> None:
    write_embeddings(tmp_path, StoredEmbeddings(np.eye(2), pd.DataFrame({"item": [1, 2], "identity": [7, None]})))
    table = read_embeddings(tmp_path).table
    assert table["item"].tolist() == ["1", "2"]
    assert table["identity"].tolist() == ["7", ""]
    assert table["camera"].tolist() == ["", ""]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("anna/1_a.png", "anna/2_a.png", "ben/1_a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 8)).save(tmp_path / name)
    return tmp_path


def test_labels_come_from_paths_or_from_a_table(pictures: Path) -> None:
    by_path, left_out = labelled_images(pictures, pattern="{identity}/{camera}_*.png", table=None)
    assert [(image.identity, image.camera) for image in by_path] == [("anna", "1"), ("anna", "2"), ("ben", "1")]
    assert left_out == {}
    (pictures / "who.csv").write_text("path,identity,camera\nanna/1_a.png,A,7\nben/1_a.png,B,8\n")
    by_table, _ = labelled_images(pictures, pattern=None, table=pictures / "who.csv")
    assert [(image.identity, image.camera) for image in by_table] == [("A", "7"), ("B", "8")]
    with pytest.raises(ConfigurationError, match="one of them"):
        labelled_images(pictures, pattern="{identity}/*", table=pictures / "who.csv")


def test_embeddings_are_labelled_by_the_place_of_their_images(pictures: Path) -> None:
    table = pd.DataFrame({"item": ["x", "y"], "source": ["ben/1_a.png", "zoe/1_a.png"], "identity": "", "camera": ""})
    stored = StoredEmbeddings(np.eye(2), table)
    images, _ = labelled_images(pictures, pattern="{identity}/{camera}_*.png", table=None)
    assert add_labels(stored, images, pictures).table["identity"].tolist() == ["ben", ""]
    with pytest.raises(DataError, match="none of the 2 embeddings belongs to any of the 3 images"):
        add_labels(stored, images, pictures.parent)
