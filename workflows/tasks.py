"""The tasks that this distribution knows; each is imported when a workflow names it."""

from pipelines.task import TaskEntry, register_task

__all__ = ["ADAPTERS", "TASKS", "register_network_adapters", "register_tasks"]

TASKS = (
    TaskEntry(
        "medical/segmentation",
        "domains.medical.segmentation.task:SegmentationTask",
        "structures in scans and images, 2D or 3D",
    ),
    TaskEntry(
        "medical/survival",
        "domains.medical.survival.task:SurvivalTask",
        "time to an event from genomics, slides or both",
        join="domains.medical.survival.joining:join_patients",
        tables=True,
    ),
    TaskEntry(
        "medical/bags",
        "domains.medical.bags.task:BagTask",
        "classes of bags of instances, such as slides of tiles (multiple-instance learning)",
    ),
    TaskEntry(
        "reid/retrieval",
        "domains.reid.retrieval.task:RetrievalTask",
        "pictures of the same person, vehicle or thing, found among others",
        join="domains.reid.index.embedding_files:join_embeddings",
        columns=("camera", "view"),
    ),
    TaskEntry(
        "reid/classification",
        "domains.reid.classification.task:ClassificationTask",
        "classes that look alike, told apart in pictures",
        columns=("camera", "view"),
    ),
    TaskEntry(
        "reid/attributes",
        "domains.reid.attributes.task:AttributeTask",
        "pictures compared by one attribute at a time: type, viewpoint",
        columns=("camera", "view"),
    ),
    TaskEntry(
        "video/skeleton-action",
        "domains.video.skeleton_action.task:SkeletonActionTask",
        "actions, told apart by the movement of joints",
    ),
    TaskEntry(
        "video/pose",
        "domains.video.pose.task:PoseTask",
        "joints of persons and animals in pictures and videos",
    ),
    TaskEntry(
        "video/clip-action",
        "domains.video.clip_action.task:ClipActionTask",
        "actions, told apart in RGB clips",
    ),
)


def register_tasks() -> None:
    """Makes every task known by name."""
    for entry in TASKS:
        register_task(entry)


ADAPTERS = (
    "domains.medical.bags.adapters",
    "domains.medical.survival.adapters",
    "domains.reid.adapters",
    "domains.video.pose.adapters",
)
"""Packages that hold published networks of the domains against ours."""


def register_network_adapters() -> None:
    """Makes the references of the domains' networks known to `pulvinar attention verify`."""
    from shared_attention.published import register_adapters

    for package in ADAPTERS:
        register_adapters(package)
