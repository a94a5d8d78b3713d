"""The sections of a fine-grained classification workflow."""

from __future__ import annotations

from domains.reid.settings import HeadSettings, LossSettings, PictureWorkflow

__all__ = ["ClassificationWorkflow"]


class ClassificationWorkflow(PictureWorkflow):
    """A fine-grained classification workflow: what tells the identity tells the class."""

    head: HeadSettings = HeadSettings(neck=False, served="before")
    """What stands between features and decisions."""
    loss: LossSettings = LossSettings(triplet=0.0)
    """What is minimised."""
