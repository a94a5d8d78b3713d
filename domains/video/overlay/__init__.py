"""Videos with what a model saw drawn into them: skeletons, boxes, and the probability of each class over time."""

from domains.video.overlay.persons import Person
from domains.video.overlay.timeline import most_likely
from domains.video.overlay.writer import OverlayWriter

__all__ = ["OverlayWriter", "Person", "most_likely"]
