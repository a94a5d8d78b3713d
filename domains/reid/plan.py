"""What a network needs to serve again: learned from the training part, told in the model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.cases import Case

__all__ = ["Plan", "identity_names"]


@dataclass(frozen=True)
class Plan:
    """What the training part says.

    Attributes:
        classes: Names of the classes in the order of the logits; empty for retrieval, where identities are of training
            alone and their names are nobody's business.
        identities: How many logits there are.
        cameras: Cameras that the network is told of, in the order of their numbers from 1; 0 is unknown.
        views: Views likewise.
        attributes: Attributes that have an embedding of their own, in the order of the embeddings.
    """

    classes: tuple[str, ...]
    identities: int
    cameras: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @classmethod
    def of(cls, training: Sequence[Case], *, named: bool, cameras: bool, views: bool) -> Plan:
        """The plan of a training part; nothing in it depends on the order of the cases.

        Args:
            training: Training cases.
            named: Whether the classes keep their names.
            cameras: Whether the network is told the camera.
            views: Whether the network is told the view.
        """
        identities = identity_names(training)
        return cls(
            tuple(identities) if named else (),
            len(identities),
            tuple(sorted({str(case.labels.get("camera", "")) for case in training} - {""})) if cameras else (),
            tuple(sorted({str(case.labels.get("view", "")) for case in training} - {""})) if views else (),
        )

    @property
    def sides(self) -> int:
        """Cameras, views, or pairs of both that are known."""
        return max(1, len(self.cameras)) * max(1, len(self.views)) if self.cameras or self.views else 0

    def side(self, labels: Mapping[str, Any]) -> int:
        """Number of the camera and view of a case, from 1; 0 where either is not known."""
        camera = _place(self.cameras, labels.get("camera"))
        view = _place(self.views, labels.get("view"))
        if not self.sides or camera is None or view is None:
            return 0
        return 1 + camera * max(1, len(self.views)) + view

    def describe(self) -> dict[str, Any]:
        """Plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Plan:
        """The inverse of `describe`."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in described.items()
        }
        return cls(**plain)


def identity_names(cases: Sequence[Case]) -> list[str]:
    """Identities, sorted by name, so that numbers depend on neither folders nor the file system."""
    return sorted({str(case.labels["identity"]) for case in cases if case.labels.get("identity")})


def _place(known: tuple[str, ...], value: Any) -> int | None:
    """Place among the known values; 0 where nothing is to be known, None where it is not among them."""
    if not known:
        return 0
    return known.index(str(value)) if str(value) in known else None
