"""Batches of P identities with K pictures each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.reid.training.batches import BalancedOrder
from pipelines.errors import DataError


def identities(*counts: int) -> list[str]:
    return [f"person {number}" for number, count in enumerate(counts) for _ in range(count)]


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=25),
    images=st.integers(2, 5),
    wanted=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_every_batch_has_its_identities_with_their_pictures_and_every_identity_its_turn(counts, images, wanted, seed):
    names = identities(*counts)
    order = BalancedOrder(names, images=images, repeat=True)
    size = images * wanted
    shape = order.shape(size)
    assert shape[0] * shape[1] == size
    samples = order.arrange(np.random.default_rng(seed), size)
    assert len(samples) == order.batches(size) * size
    assert len(set(samples)) == len(samples)
    assert max(samples) < len(names) * order.copies(size)
    seen = set()
    for start in range(0, len(samples), size):
        batch = [names[sample % len(names)] for sample in samples[start : start + size]]
        found, each = np.unique(batch, return_counts=True)
        assert len(found) == shape[0]
        assert set(each) == {shape[1]}
        seen.update(batch)
    assert seen == set(names)


def test_a_pass_is_a_function_of_its_generator():
    order = BalancedOrder(identities(4, 6, 8, 5), images=4)
    first, again, other = (order.arrange(np.random.default_rng(seed), 8) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_pictures_are_spread_over_cameras():
    names, cameras = identities(8, 8), [str(number % 8 // 6) for number in range(16)]
    order = BalancedOrder(names, cameras=cameras, images=2)
    samples = order.arrange(np.random.default_rng(0), 4)
    pairs = [{cameras[sample] for sample in samples[start : start + 2]} for start in range(0, len(samples), 2)]
    # Six pictures of one camera and two of the other make two pairs of both for each of two identities.
    assert sum(len(pair) == 2 for pair in pairs) == 4


def test_too_few_of_anything_is_told_with_the_counts():
    with pytest.raises(DataError, match="needs 8 identities with 4 pictures each; there are 3"):
        BalancedOrder(identities(9, 9, 9)).shape(32)
    with pytest.raises(DataError, match="1 of 3 identities have fewer than 4 pictures, the fewest 3"):
        BalancedOrder(identities(9, 3, 9)).shape(8)
    with pytest.raises(DataError, match="a batch of 10 cannot hold 4 pictures of each"):
        BalancedOrder(identities(9, 9, 9)).shape(10)
    assert BalancedOrder(identities(9, 3, 9), repeat=True).shape(32) == (2, 16)
