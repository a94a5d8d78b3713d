"""Prepared cases: held up to the limit, shared between threads, and carried to other processes."""

from __future__ import annotations

import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.cases import Case
from pipelines.casestore import CaseStore
from pipelines.errors import CaseError

PREPARED: Counter[str] = Counter()


def prepare(case: Case) -> str:
    PREPARED[case.case_id] += 1
    if case.case_id == "broken":
        raise CaseError(case.case_id, "cannot be read")
    return case.case_id * 10


@pytest.fixture(autouse=True)
def counted() -> None:
    PREPARED.clear()


def case(name: str) -> Case:
    return Case(case_id=name, group=name, paths={})


def test_a_case_is_prepared_once_while_there_is_room_and_each_time_beyond() -> None:
    store = CaseStore(prepare, size=len, limit=25)
    for _ in range(3):
        assert [store[case(name)] for name in "abc"] == ["a" * 10, "b" * 10, "c" * 10]
    assert PREPARED == {"a": 1, "b": 1, "c": 3}


def test_warming_prepares_what_fits_and_leaves_what_is_broken_to_be_reported_when_it_is_drawn() -> None:
    store = CaseStore(prepare, size=len, limit=1000)
    store.warm([case("a"), case("broken"), case("b")])
    assert PREPARED == {"a": 1, "broken": 1, "b": 1}
    assert store[case("b")] == "b" * 10
    with pytest.raises(CaseError, match="cannot be read"):
        store[case("broken")]
    assert PREPARED["b"] == 1


def test_the_limit_holds_when_threads_ask_together() -> None:
    store = CaseStore(prepare, size=len, limit=20)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store[case(name)], "aabbccdd" * 5))
    PREPARED.clear()
    for name in "abcd":
        store[case(name)]
    assert sum(PREPARED.values()) == 2  # two were held


def test_another_process_gets_what_is_held() -> None:
    store = CaseStore(prepare, size=len, limit=1000)
    store.warm([case("a")])
    other = pickle.loads(pickle.dumps(store))
    assert other[case("a")] == "a" * 10
    assert PREPARED["a"] == 1
    assert other[case("b")] == "b" * 10
