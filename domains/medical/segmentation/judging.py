"""How one prediction is judged and drawn, always on the grid of the scan and against the reference file."""

from __future__ import annotations

__all__ = ["draw_case", "judge_case"]
