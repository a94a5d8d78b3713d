"""Fixtures that every part uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; a test that takes it is skipped on a machine without one."""
    from pipelines.fixtures import data_root

    root = data_root()
    if root is None:
        pytest.skip("needs real data: set PULVINAR_DATA to a folder that holds them")
    return root


@pytest.fixture(scope="session")
def golden_root() -> Path:
    """The folder of the authors' reference outputs; a test that takes it is skipped on a machine without one."""
    from pipelines.fixtures import golden_root

    root = golden_root()
    if root is None:
        pytest.skip("needs reference outputs: set PULVINAR_GOLDEN to a folder that holds them")
    return root
