"""What is known of one picture, whatever layout it came from, and what was found on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ImageRecord", "Records", "record_name"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of files that count as pictures."""


@dataclass(frozen=True)
class ImageRecord:
    """One picture.

    Attributes:
        name: Unique in a data set, safe as a file name.
        path: The file.
        identity: Whom or what it shows, as the data set calls it; empty for a distractor, who is nobody's match.
        camera: Which camera took it; empty where that is not known.
        view: From which side it was taken (front, rear, an angle); empty where that is not known.
        track: Which tracklet it belongs to; empty where that is not known.
        part: `train`, `validation`, `test`, or empty where it is still to be drawn.
        role: `query` or `gallery` where the data set says so; empty where the judge decides.
        attributes: What else is known (colour, type), by name.
    """

    name: str
    path: Path
    identity: str
    camera: str = ""
    view: str = ""
    track: str = ""
    part: str = ""
    role: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Records:
    """The pictures of a data set, and the parse report: what was found, used, and skipped with the reason.

    Attributes:
        root: The folder that paths are told relative to.
        used: Records, in the order of their names.
        skipped: File (relative to the root) → why it is not used.
    """

    root: Path
    used: list[ImageRecord] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """Pictures seen."""
        return len(self.used) + len(self.skipped)

    def skip(self, path: Path, reason: str) -> None:
        """Sets a file aside."""
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        self.skipped[name] = reason

    def report(self) -> dict[str, object]:
        """The parse report as plain values."""
        parts = Counter(
            f"{record.part or 'undivided'}{f' {record.role}' if record.role else ''}" for record in self.used
        )
        return {
            "found": self.found,
            "used": len(self.used),
            "skipped": dict(sorted(Counter(self.skipped.values()).items())),
            "identities": len({record.identity for record in self.used if record.identity}),
            "cameras": len({record.camera for record in self.used if record.camera}),
            "distractors": sum(not record.identity for record in self.used),
            "parts": dict(sorted(parts.items())),
        }


def record_name(root: Path, path: Path) -> str:
    """The path below the root as one word, without its ending: `query/0002_c1s1.jpg` gives `query-0002_c1s1`."""
    relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return "-".join(relative.with_suffix("").parts)
