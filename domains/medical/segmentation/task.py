"""Segmentation of medical images, as the shared pipelines see it."""

from __future__ import annotations

from domains.medical.segmentation.settings import SegmentationWorkflow
from pipelines.task import Task

__all__ = ["SegmentationTask"]


class SegmentationTask(Task):
    """Segments volumes and images into classes."""

    name = "medical/segmentation"
    Config = SegmentationWorkflow
    selection_metric = "dice"
