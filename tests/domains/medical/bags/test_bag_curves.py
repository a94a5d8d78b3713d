"""Pictures of one bag show its tiles where they lie and as large as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domains.medical.bags.curves import draw_bag
from domains.medical.bags.predictor import BagPrediction
from domains.medical.bags.target import Target
from pipelines.cases import Case

TARGET = Target(("benign", "malignant"), column="label", values=("0", "1"))
COORDS = np.array([[0, 0], [200, 0], [0, 200], [200, 200]], np.int64)
ATTENTION = np.array([0.7, 0.1, 0.1, 0.1], np.float32)


def dark(attributes: dict[str, Any]) -> float:
    """Share of the picture that has the colour of the least attention."""
    result = BagPrediction(np.array([0.4, 0.6]), ATTENTION, COORDS, attributes)
    (figure,) = draw_bag(Case("core", "core", {}, {"label": "1"}), result, TARGET)
    assert figure.data is not None
    assert figure.data["attention"].tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])
    assert figure.data.iloc[0][["x", "y"]].tolist() == [0, 0]
    return float((figure.image.max(axis=-1) < 12).mean())


def test_tiles_are_drawn_as_large_as_they_are() -> None:
    small, half, full = (dark({"patch_size_level0": size}) for size in (20, 100, 200))
    assert small < half < full
    assert full > 5 * small
    assert dark({}) < half, "dots where the bag does not say"
    assert dark({"patch_size_level0": 200, "patch_height_level0": 100}) < full
