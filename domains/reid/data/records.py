"""What is known of one picture, whatever layout it came from, and what was found on the way."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domains.reid.data.files import is_picture

__all__ = ["ImageRecord", "Records", "record_name"]


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
        by_rule: Those of the skipped files that the data set itself leaves out, so that there is nothing to mend.
        others: Ending → how many files are no pictures by it.
    """

    root: Path
    used: list[ImageRecord] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    by_rule: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> int:
        """Pictures seen."""
        return len(self.used) + len(self.skipped)

    def skip(self, path: Path, reason: str, *, by_rule: bool = False) -> None:
        """Sets a file aside; `by_rule` where the data set itself says that it does not count."""
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        self.skipped[name] = reason
        if by_rule:
            self.by_rule.add(name)

    def pictures(self, files: Iterable[Path]) -> Iterator[Path]:
        """Those of the files that are pictures by their ending; the others are counted, dead links are skipped."""
        for path in files:
            if not is_picture(path):
                self.others[path.suffix.lower() or "no ending"] += path.is_file()
            elif path.is_file():
                yield path
            elif path.is_symlink():
                self.skip(path, "a link that leads nowhere")

    def report(self) -> dict[str, object]:
        """The parse report as plain values."""
        parts = Counter(
            f"{record.part or 'undivided'}{f' {record.role}' if record.role else ''}" for record in self.used
        )
        pictures, cameras = Counter[str](), defaultdict[str, set[str]](set)
        for record in self.used:
            if record.identity:
                pictures[record.identity] += 1
                cameras[record.identity].add(record.camera)
        return {
            "found": self.found,
            "used": len(self.used),
            "skipped": dict(sorted(Counter(self.skipped.values()).items())),
            "identities": len(pictures),
            "identities with one picture": sum(count == 1 for count in pictures.values()),
            "identities seen by one camera": sum(len(seen) == 1 and "" not in seen for seen in cameras.values()),
            "cameras": len({record.camera for record in self.used if record.camera}),
            "distractors": sum(not record.identity for record in self.used),
            "parts": dict(sorted(parts.items())),
            "other files": {ending: count for ending, count in sorted(self.others.items()) if count},
        }


def record_name(root: Path, path: Path) -> str:
    """The path below the root as one word, without its ending: `query/0002_c1s1.jpg` gives `query-0002_c1s1`."""
    relative = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return "-".join(relative.with_suffix("").parts)
