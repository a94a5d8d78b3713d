"""The catalogue of workflows that come with the distribution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ConfigurationError

__all__ = ["CatalogueEntry", "catalogue", "find_workflow"]

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class CatalogueEntry:
    """A workflow of the catalogue: `name` is what can be typed, `summary` the first comment line of the file."""

    name: str
    path: Path
    summary: str


def catalogue() -> tuple[CatalogueEntry, ...]:
    """Every workflow of the catalogue, by name."""
    files = sorted(path for path in FOLDER.glob("*/*.yaml") if path.parent.name != "templates")
    return tuple(
        CatalogueEntry(path.relative_to(FOLDER).with_suffix("").as_posix(), path, _summary(path)) for path in files
    )


def find_workflow(name: str) -> Path:
    """A workflow file: the path as typed, or an entry of the catalogue (`medical/hippocampus`).

    Raises:
        ConfigurationError: There is neither.
    """
    path = Path(name)
    if path.exists():
        return path
    # A path as the repository spells it works from any folder.
    asked = path.with_suffix("").as_posix().removeprefix("workflows/")
    entries = catalogue()
    for entry in entries:
        if entry.name == asked:
            return entry.path
    import difflib

    close = difflib.get_close_matches(asked, [entry.name for entry in entries], n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigurationError(
        f"there is no file {name!r} and no workflow of that name{meant}", hint="pulvinar list workflows"
    )


def _summary(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
