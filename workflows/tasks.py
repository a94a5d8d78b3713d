"""The tasks that this distribution knows; each is imported when a workflow names it."""

from pipelines.task import TaskEntry, register_task

__all__ = ["TASKS", "register_tasks"]

TASKS = (
    TaskEntry(
        "medical/segmentation",
        "domains.medical.segmentation.task:SegmentationTask",
        "structures in scans and images, 2D or 3D",
    ),
)


def register_tasks() -> None:
    """Makes every task known by name."""
    for entry in TASKS:
        register_task(entry)
