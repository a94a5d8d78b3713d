"""Embeddings that cannot be judged are refused, each with its reason."""

from __future__ import annotations

import numpy as np
import pytest

from domains.reid.judging.embeddings import EmbeddingSet, check_embeddings, merge_sets
from pipelines.errors import DataError

GOOD = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def altered(row: int, value: float) -> np.ndarray:
    values = GOOD.copy()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param(altered(2, np.nan), "1 of 6 rows hold NaN or infinity, the first is row 2", id="NaN"),
        pytest.param(altered(0, np.inf), "the first is row 0", id="infinity"),
        pytest.param(altered(3, 0.0), "row 3 is all zeros", id="a row of zeros"),
        pytest.param(np.tile(GOOD[:1], (5, 1)), "all 5 rows are the same", id="constant"),
        pytest.param(GOOD[:1] * np.arange(1, 6)[:, None], "the network has collapsed", id="one direction"),
        pytest.param(GOOD[0], r"shape \(4,\)", id="one axis"),
        pytest.param(GOOD[:0], "not empty", id="empty"),
        pytest.param(np.array([["a", "b"]]), "real numbers", id="text"),
    ],
)
def test_what_cannot_be_judged_is_refused(values: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_embeddings(values)


def test_a_single_row_and_whole_numbers_are_taken() -> None:
    assert check_embeddings(GOOD[:1]).shape == (1, 4)
    assert check_embeddings([[1, 2], [2, 1]]).dtype == np.float64
    assert check_embeddings(GOOD.astype(np.float16)).dtype == np.float32


def test_nearly_equal_directions_are_not_called_collapsed() -> None:
    check_embeddings(GOOD[:1] + 1e-4 * GOOD)


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(DataError, match=r"gallery: cameras: shape \(2,\), but there are 6"):
        EmbeddingSet.of(GOOD, range(6), [1, 2], name="gallery")


def test_identities_of_merged_sets_stay_apart() -> None:
    first = EmbeddingSet.of(GOOD[:3], [1, 2, -1], [1, 1, 2])
    second = EmbeddingSet.of(GOOD[3:], [1, 2, 3], [1, 2, 3])
    merged = merge_sets({"a": first, "b": second}, keep=("-1",))
    assert merged.identities.tolist() == ["a/1", "a/2", "-1", "b/1", "b/2", "b/3"]
    assert merged.cameras is not None
    assert merged.cameras.tolist() == ["a/1", "a/1", "a/2", "b/1", "b/2", "b/3"]
    np.testing.assert_array_equal(merged.embeddings, GOOD)


def test_sets_that_do_not_fit_are_not_merged() -> None:
    with pytest.raises(DataError, match="'b': 2"):
        merge_sets({"a": EmbeddingSet.of(GOOD, range(6)), "b": EmbeddingSet.of(GOOD[:, :2], range(6))})
    with pytest.raises(DataError, match="b: no cameras"):
        merge_sets({"a": EmbeddingSet.of(GOOD, range(6), range(6)), "b": EmbeddingSet.of(GOOD, range(6))})
