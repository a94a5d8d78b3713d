"""The benchmarks of re-identification run, and both sides of each give the same numbers; nothing is said of time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import reid_evaluation
import reid_trials
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


def trial(network: str, seed: int, values: dict[str, tuple[str, float]]) -> reid_trials.Trial:
    return reid_trials.Trial("reid/x", network, seed, ("a=1",), values, {"train seconds": 1.0, "parameters": 2})


def test_trainings_that_are_there_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[object, ...]] = []

    def train_once(*key: object) -> reid_trials.Trial:
        trained.append(key)
        return trial(str(key[1]), int(str(key[2])), {"q": ("g", float(len(trained)))})

    monkeypatch.setattr(reid_trials, "train_once", train_once)
    wanted = [("reid/x", network, seed, ("a=1",)) for seed in (0, 1) for network in ("plain", "other")]
    assert reid_trials.run_trials(wanted, tmp_path / "rows.jsonl", most=3) is None
    done = reid_trials.run_trials(wanted, tmp_path / "rows.jsonl")
    assert done is not None
    assert trained == wanted
    assert [done[key].mean for key in wanted] == [1.0, 2.0, 3.0, 4.0]
    assert reid_trials.run_trials([("reid/x", "plain", 0, ("a=2",))], tmp_path / "rows.jsonl", most=0) is None


def test_differences_are_paired_and_intervals_are_over_groups() -> None:
    rng = np.random.default_rng(0)
    ease = {f"q{number}": (f"g{number // 4}", float(rng.random())) for number in range(80)}
    better = {name: (group, value + 0.1 + 0.01 * float(rng.normal())) for name, (group, value) in ease.items()}
    found = reid_trials.difference([ease, ease], [better, better])
    assert found["mean"] == pytest.approx(0.1, abs=0.005)
    assert found["low"] < found["mean"] < found["high"]
    assert found["high"] - found["low"] < 0.02
    one = {"a": ("g", 0.2), "b": ("h", 0.4)}
    told = reid_trials.compared(
        "x", [trial("plain", 0, one), trial("other", 0, {"a": ("g", 0.3), "b": ("h", 0.9)})], "plain"
    )
    assert told["other"]["difference to plain"]["mean"] == pytest.approx(0.3)
    assert told["other"]["difference to plain"]["low"] == pytest.approx(0.1)
    assert told["other"]["difference to plain"]["high"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="not judged on the same cases"):
        reid_trials.difference([one], [{"a": ("g", 0.3)}])
