"""Measurements in processes of their own, and what a pass does, counted."""

from __future__ import annotations

import pytest
import torch

from shared_attention.bench import Request, measure_all, measure_apart
from shared_attention.bench.count import Count, counted

MIB = 2**20


def test_a_measurement_holds_time_and_memory_of_both_passes() -> None:
    request = Request("full", (32, 32), 64, seconds=0)
    found = measure_apart(request)
    assert found.outcome == "ok", found.message
    assert 0 < found.forward_seconds < found.training_seconds
    tokens = 32 * 32 * 64 * 4
    # Queries, keys, values and the output at least; tokens by tokens in float32 would be 8 MiB.
    assert 4 * tokens < found.forward_bytes < found.training_bytes < 8 * MIB
    assert found.as_dict()["grid"] == "32x32"


def test_what_fails_is_a_result_and_the_others_go_on() -> None:
    wrong = Request("window", (8, 8), 64, arguments={"heads": 5}, seconds=0)
    right = Request("eca", (8, 8), 64, seconds=0)
    first, second = measure_all([wrong, right])
    assert first.outcome == "failed"
    assert "heads" in first.message
    assert second.outcome == "ok"


def test_too_little_memory_is_a_result_and_larger_grids_are_not_tried() -> None:
    requests = [Request("relative_convolved", (side, side), 64, seconds=0) for side in (64, 65)]
    first, second = measure_all(requests, memory=256 * MIB)  # 4096 x 4096 weights of two heads are 128 MiB
    assert first.outcome == "out_of_memory", first.message
    assert second.outcome == "out_of_memory"
    assert "4096 tokens; not tried" in second.message


def test_too_little_time_is_a_result() -> None:
    found = measure_apart(Request("full", (128, 128), 64), timeout=0.01)
    assert found.outcome == "timeout"


def test_count_sees_products_what_they_leave_and_the_peak() -> None:
    a, b = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5)
    with Count() as count:
        product = a @ b  # (3, 5)
        product.sum().backward()
    assert count.multiplications == 2 * 3 * 4 * 5  # of the product, and of the gradient of a
    assert count.peak >= (3 * 5 + 3 * 4) * 4
    with Count() as count:
        for _ in range(5):
            torch.zeros(100)
    assert count.peak == 400


def test_counted_peak_is_near_the_measured_one() -> None:
    request = Request("window", (112, 112), 64, seconds=0)
    assert counted(request).peak == pytest.approx(measure_apart(request).training_bytes, rel=0.25)
