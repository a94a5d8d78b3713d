"""The benchmarks of re-identification run, and both sides of each give the same numbers; nothing is said of time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import reid_evaluation
import reranking


def test_both_evaluations_give_the_same_numbers() -> None:
    query, gallery = reid_evaluation.made_up_sets(80, 500, 16)
    ours, plain = reid_evaluation.our_evaluation(query, gallery), reid_evaluation.plain_evaluation(query, gallery)
    assert 0.05 < plain["map"] < 0.95
    assert reid_evaluation.largest_difference(ours, plain) < 1e-12


def test_both_rerankings_give_the_same_ranks() -> None:
    values = reranking.made_up_embeddings(300, 16, dtype=np.float64)
    sparse = reranking.sparse_distances(values[:40], values[40:])
    agreed = reranking.agreement(sparse, reranking.dense_distances(values[:40], values[40:]))
    assert agreed["share of equal ranks"] == 1.0
    assert agreed["largest difference of distances"] < 1e-12
    plain = 1 - values[:40] @ values[40:].T
    assert reranking.agreement(plain, sparse)["share of equal ranks"] < 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the resident set is read from /proc")
def test_each_reranking_is_measured_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "embeddings.npy", reranking.made_up_embeddings(200, 8))
    reranking.child("dense", tmp_path / "embeddings.npy", 20, tmp_path / "ranking.npy")
    assert '"bytes":' in capsys.readouterr().out
    assert np.load(tmp_path / "ranking.npy").shape == (20, 180)
