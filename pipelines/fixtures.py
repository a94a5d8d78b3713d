"""Where optional real data and reference outputs lie.

`PULVINAR_DATA` and `PULVINAR_GOLDEN` name the folders; without them, `../shared/data` and `../shared/golden` beside the
checkout are used where they exist.
"""

import os
from pathlib import Path

__all__ = ["data_root", "golden_root"]

_BESIDE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"


def data_root() -> Path | None:
    """The folder of real data sets, or None where there is none."""
    return _existing("PULVINAR_DATA", "data")


def golden_root() -> Path | None:
    """The folder of reference outputs of the authors' code, or None where there is none."""
    return _existing("PULVINAR_GOLDEN", "golden")


def _existing(variable: str, folder: str) -> Path | None:
    named = os.environ.get(variable)
    path = Path(named) if named else _BESIDE_CHECKOUT / folder
    return path if path.is_dir() else None
