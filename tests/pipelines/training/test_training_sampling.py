"""Which samples come when, and how they reach the training process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import CaseError, DataError
from pipelines.task import SampleKey
from pipelines.training.sampling import SampleStream, batch_case_ids, derive_seed, make_loader, map_tensors


@given(length=st.integers(1, 40), batch_size=st.integers(1, 60), seed=st.integers(0, 2**31 - 1))
def test_every_pass_holds_every_sample_once_and_every_batch_is_full(length: int, batch_size: int, seed: int) -> None:
    stream = SampleStream(length, batch_size, seed)
    batches = [stream.batch(number) for number in range(3 * stream.batches_per_pass)]
    assert all(len(batch) == batch_size for batch in batches)
    keys = [key for batch in batches for key in batch]
    assert len(set(keys)) == len(keys)
    for turn in range(3 if length % batch_size == 0 else 2):
        assert sorted(key.index for key in keys if key.epoch == turn) == list(range(length))


def test_order_changes_with_the_pass_and_the_seed() -> None:
    orders = {
        tuple(key.index for number in range(4) for key in SampleStream(20, 5, seed).batch(4 * turn + number))
        for seed in (0, 1)
        for turn in (0, 1)
    }
    assert len(orders) == 4


def test_seeds_differ_wherever_a_part_differs() -> None:
    seeds = Counter(derive_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8))
    assert len(seeds) == 512


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_loader_gives_the_same_bits_for_any_number_of_workers(toy: ModuleType, workers: int, start: int) -> None:
    stream = SampleStream(10, 4, 3)
    data = toy.ToyData(toy.make_cases(10), 3, frozenset())
    expected = [fetched.batch for fetched in make_loader(data, stream, start=0, stop=6)][start:]
    batches = [fetched.batch for fetched in make_loader(data, stream, start=start, stop=6, workers=workers)]
    assert len(batches) == 6 - start
    for one, other in zip(batches, expected, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert one["case_id"] == other["case_id"]


def test_processes_share_each_batch(toy: ModuleType) -> None:
    stream = SampleStream(10, 4, 3)
    data = toy.ToyData(toy.make_cases(10), 3, frozenset())
    whole = [fetched.batch["image"] for fetched in make_loader(data, stream, start=0, stop=5)]
    shares = [
        [fetched.batch["image"] for fetched in make_loader(data, stream, start=0, stop=5, rank=rank, processes=2)]
        for rank in (0, 1)
    ]
    assert all(torch.equal(torch.cat(pair), batch) for *pair, batch in zip(*shares, whole, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_case_arrives_as_itself(toy: ModuleType, workers: int) -> None:
    data = toy.ToyData(toy.make_cases(4), 3, frozenset({"case02"}))
    problems = [
        fetched.problem for fetched in make_loader(data, SampleStream(4, 1, 3), start=0, stop=4, workers=workers)
    ]
    (problem,) = [problem for problem in problems if problem is not None]
    assert isinstance(problem, CaseError)
    assert (problem.case_id, problem.reason, problem.hint) == ("case02", "cannot be read", "Repair it.")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skipped_case_gives_way_to_the_next_one(toy: ModuleType, workers: int) -> None:
    data = toy.ToyData(toy.make_cases(4), 3, frozenset({"case02", "case03"}))
    loader = make_loader(data, SampleStream(4, 4, 3), start=0, stop=2, workers=workers, skip_bad_cases=True)
    for fetched in loader:
        assert fetched.problem is None
        assert {error.case_id for error in fetched.skipped} == {"case02", "case03"}
        assert Counter(fetched.batch["case_id"]) == {"case00": 3, "case01": 1}


def test_nothing_left_to_read_is_an_error(toy: ModuleType) -> None:
    cases = toy.make_cases(3)
    data = toy.ToyData(cases, 3, frozenset(case.case_id for case in cases))
    (fetched,) = make_loader(data, SampleStream(3, 1, 3), start=0, stop=1, skip_bad_cases=True)
    assert isinstance(fetched.problem, DataError)
    assert "none of the 3" in str(fetched.problem)


def test_map_tensors_reaches_everything_and_keeps_kinds() -> None:
    def double(tensor: torch.Tensor) -> torch.Tensor:
        return tensor * 2

    one = torch.ones(())
    nested: dict[str, Any] = {"a": [one, "x"], "b": (one, 3), "c": torch.return_types.max((one, one)), "d": None}
    mapped = map_tensors(nested, double)
    assert mapped["a"][0] == 2
    assert mapped["a"][1] == "x"
    assert isinstance(mapped["b"], tuple)
    assert mapped["b"][0] == 2
    assert mapped["d"] is None


@pytest.mark.parametrize(
    ("batch", "ids"),
    [
        pytest.param({"case_id": ["a", "b"]}, ["a", "b"], id="list"),
        pytest.param({"case_id": "a"}, ["a"], id="one"),
        pytest.param({"image": 1}, [], id="none named"),
        pytest.param([1, 2], [], id="not a mapping"),
    ],
)
def test_case_ids_of_a_batch(batch: Any, ids: list[str]) -> None:
    assert batch_case_ids(batch) == ids


class Pairs:
    """Four things with two samples each; a batch holds things whole."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: SampleKey) -> int:
        return key.index

    def collate(self, samples: Sequence[int]) -> dict[str, list[int]]:
        return {"index": list(samples)}

    def pass_length(self, batch_size: int) -> int:
        return 8

    def arrange(self, rng: np.random.Generator, batch_size: int) -> list[int]:
        return [2 * int(thing) + at for thing in rng.permutation(4) for at in (0, 1)]


def test_data_that_arranges_its_passes_is_taken_in_its_own_order() -> None:
    stream = SampleStream.over(Pairs(), 4, 3)
    batches = [[key.index for key in stream.batch(number)] for number in range(6)]
    for batch in batches:
        assert [index // 2 for index in batch[::2]] == [index // 2 for index in batch[1::2]]
    assert [sorted(batches[at] + batches[at + 1]) for at in (0, 2, 4)] == [list(range(8))] * 3
    assert batches[0] + batches[1] != batches[2] + batches[3]
    again = SampleStream.over(Pairs(), 4, 3)
    assert [key.index for key in again.batch(5)] == batches[5]


def test_a_pass_of_another_length_than_announced_is_an_error() -> None:
    class Short(Pairs):
        def arrange(self, rng: np.random.Generator, batch_size: int) -> list[int]:
            return [0, 1]

    with pytest.raises(ValueError, match="announced with 8 samples and arranged with 2"):
        SampleStream.over(Short(), 4, 3).batch(0)
