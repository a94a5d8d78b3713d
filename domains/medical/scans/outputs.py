"""How our own results are told from inputs."""

from __future__ import annotations

__all__ = ["OUTPUT_MARK"]

OUTPUT_MARK = "Pulvinar"
"""Said by NIfTI (`intent_name`), PNG (`Software`) and DICOM (`Manufacturer`) files that we write."""
