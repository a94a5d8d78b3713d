"""A small cohort in which one gene decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domains.medical.survival.settings import SurvivalWorkflow

GENES = ("TP53_rnaseq", "EGFR_rnaseq", "MYC_rnaseq", "RB1_rnaseq", "EGFR_cnv", "MYC_cnv")


def _draw_cohort(number: int = 60, *, seed: int = 0, two_slides: int = 5) -> pd.DataFrame:
    """Patients whose hazard rises with TP53; the first few have two rows."""
    generator = np.random.default_rng(seed)
    genes = generator.normal(size=(number, len(GENES)))
    genes[:, 4:] = genes[:, 4:].round()
    hidden = generator.exponential(20 * np.exp(-1.5 * genes[:, 0]))
    censored = generator.exponential(40, number)
    frame = pd.DataFrame(genes, columns=list(GENES)).round(4)
    frame.insert(0, "case_id", [f"P-{at:03d}" for at in range(number)])
    frame.insert(1, "age", generator.integers(40, 80, number).astype(float))
    frame.insert(2, "survival_months", (np.minimum(hidden, censored) + 0.1).round(2))
    frame.insert(3, "censorship", (hidden > censored).astype(int))
    frame.insert(4, "given_fold", np.arange(number) % 3)
    frame.loc[frame.index == 7, "age"] = np.nan
    return pd.concat([frame, frame.iloc[:two_slides]], ignore_index=True)


def _configure(folder: Path, *, file: str = "cohort.csv", **changes) -> SurvivalWorkflow:
    data = {"format": "patients", "file": str(folder / file), "fold": "given_fold", **changes.pop("data", {})}
    return SurvivalWorkflow.model_validate(
        {
            "task": "medical/survival",
            "name": "test",
            "output": str(folder / "runs"),
            "data": data,
            "intervals": 3,
            "model": {"name": "snn", "widths": [8]},
            **changes,
        }
    )


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    _draw_cohort().to_csv(tmp_path / "cohort.csv", index=False)
    return tmp_path


@pytest.fixture
def draw_cohort() -> Callable[..., pd.DataFrame]:
    """Draws patients."""
    return _draw_cohort


@pytest.fixture
def configure() -> Callable[..., SurvivalWorkflow]:
    """A workflow of the cohort in a folder."""
    return _configure
