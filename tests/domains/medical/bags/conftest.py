"""Small bags of points, some of which say what their bag is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULVINAR_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_arrays(path: Path, *, bags: int = 24, features: int = 6, seed: int = 0) -> Path:
    """Bags of 3 to 8 instances; a positive one has an instance that is far out on the first axis."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(3, 9, bags)
    label = np.arange(bags) % 2
    owner = np.repeat(np.arange(1, bags + 1), counts)
    values = generator.normal(size=(len(owner), features)).astype(np.float32)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    values[first[label == 1], 0] += 6
    np.savez(path, X=values, bag_id=owner, bag_ids=np.arange(1, bags + 1), bag_label=label)
    return path


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A file of 24 bags."""
    return write_arrays(tmp_path / "points.npz")
