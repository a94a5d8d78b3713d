"""Images to embeddings through a predictor: names, labels, and images that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from domains.reid.index.embedding_images import LabelledImage, embed_with
from pipelines.errors import CaseError, DataError
from pipelines.task import Item, Predictor, Written


class LengthPredictor(Predictor[Any, Any]):
    """Files of letters; the embedding is how many of them are `a` and `b`, and the number of the camera."""

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        paths = [path for given in inputs for path in (sorted(given.rglob("*.txt")) if given.is_dir() else [given])]
        return [Item(path.stem, (path,), problem="" if path.is_file() else "there is no such file") for path in paths]

    def read(self, item: Item) -> Any:
        text = item.paths[0].read_text()
        if "!" in text:
            raise CaseError(item.item_id, "truncated")
        return text, float(item.detail.get("camera", 0))

    def infer(self, loaded: Any) -> Any:
        text, camera = loaded
        if text == "nothing":
            return SimpleNamespace()
        if text == "two attributes":
            return SimpleNamespace(embedding=np.ones((2, 3)))
        return SimpleNamespace(embedding=np.array([text.count("a"), text.count("b"), camera]))

    def write(self, item: Item, result: Any, folder: Path) -> Written:
        raise NotImplementedError


def embed(images: list[LabelledImage], root: Path) -> Any:
    return embed_with(LengthPredictor(), images, root=root, model_digest="digest")


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    for name, text in {"x/1": "aab", "y/1": "b", "bad": "a!"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_images_are_named_by_their_place_and_bad_ones_set_aside(letters: Path) -> None:
    stored, failed = embed([LabelledImage(letters)], letters)
    assert stored.table["item"].tolist() == ["x/1.txt", "y/1.txt"]
    np.testing.assert_array_equal(stored.embeddings, [[2, 1, 0], [0, 1, 0]])
    assert [(one.source, one.reason) for one in failed] == [("bad.txt", "truncated")]
    assert stored.model_digest == "digest"


def test_labels_go_with_their_image_and_to_the_predictor(letters: Path) -> None:
    images = [LabelledImage(letters / "y" / "1.txt", "Y", "ben", "3"), LabelledImage(letters / "gone.txt", "Z")]
    stored, failed = embed(images, letters)
    assert stored.table.iloc[0].tolist() == ["Y", "y/1.txt", "ben", "3"]
    np.testing.assert_array_equal(stored.embeddings, [[0, 1, 3]])
    assert [(one.source, one.reason) for one in failed] == [("gone.txt", "there is no such file")]


def test_nothing_embedded_tells_the_first_reason(letters: Path) -> None:
    with pytest.raises(DataError, match=r"none of 1 images could be embedded; bad\.txt: truncated"):
        embed([LabelledImage(letters / "bad.txt")], letters)


def test_an_image_that_was_named_twice_is_refused(letters: Path) -> None:
    with pytest.raises(DataError, match=r"'x/1\.txt' was named twice"):
        embed([LabelledImage(letters), LabelledImage(letters / "x" / "1.txt")], letters)


def test_a_model_without_embeddings_is_refused(letters: Path) -> None:
    (letters / "n.txt").write_text("nothing")
    with pytest.raises(DataError, match="gives no embeddings"):
        embed([LabelledImage(letters / "n.txt")], letters)


def test_nan_from_the_network_is_refused(letters: Path) -> None:
    with pytest.raises(DataError, match="NaN"):
        embed([LabelledImage(letters / "y" / "1.txt", camera="nan")], letters)


def test_a_model_of_attributes_is_refused(letters: Path) -> None:
    (letters / "n.txt").write_text("two attributes")
    with pytest.raises(DataError, match="an embedding for each attribute"):
        embed([LabelledImage(letters / "n.txt")], letters)


def test_only_named_images_are_embedded_whatever_is_known_of_others(letters: Path) -> None:
    labels = [LabelledImage(letters / f"{name}.txt", name, name[0], "3") for name in ("x/1", "y/1")]
    stored, failed = embed_with(
        LengthPredictor(), [LabelledImage(letters / "y/1.txt")], root=letters, labels=labels, model_digest="digest"
    )
    assert stored.table[["item", "identity", "camera"]].values.tolist() == [["y/1", "y", "3"]]
    np.testing.assert_array_equal(stored.embeddings, [[0, 1, 3]])
    assert failed == []
