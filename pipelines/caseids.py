"""What makes a case identifier usable, and which group a case belongs to."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["GroupPattern", "common_root", "group_by_pattern", "identifier_problem", "normal_identifier", "some"]

_LONGEST = 120
"""In bytes; a result's file name adds its own ending to the identifier."""
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def normal_identifier(text: str) -> str:
    """The identifier without surrounding space, in Unicode's composed form, so that equal names compare equal."""
    return unicodedata.normalize("NFC", text.strip())


def identifier_problem(case_id: str) -> str:
    """Why an identifier cannot serve as a file name; empty when it can."""
    if not case_id:
        return "empty case_id"
    if found := _FORBIDDEN.search(case_id):
        return f"case_id {case_id!r} has {found.group()!r}, which a file name cannot hold"
    if case_id.startswith((".", "-")) or case_id.endswith("."):
        return f"case_id {case_id!r} starts or ends with a sign that a file name should not"
    if len(case_id.encode()) > _LONGEST:
        return f"case_id {case_id[:40]!r}… is longer than {_LONGEST} bytes"
    return ""


def _compiles(pattern: str) -> str:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    if compiled.groups > 1:
        raise ValueError(f"{pattern!r} has {compiled.groups} pairs of brackets; mark the group with one")
    return pattern


GroupPattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression; what it finds in a case id (in its brackets, if it has a pair) is the group."""


def group_by_pattern(case_id: str, pattern: str | None) -> str:
    """The group of a case: what the pattern finds in its id, else the id itself; empty when nothing is found."""
    if pattern is None:
        return case_id
    found = re.search(pattern, case_id)
    return (found.group(found.re.groups) or "") if found else ""


def common_root(folder: Path, paths: Iterable[Path]) -> Path:
    """`folder` where it holds all the paths, else the deepest folder that does."""
    listed = [str(path) for path in paths]
    if all(Path(path).is_relative_to(folder) for path in listed):
        return folder
    return Path(os.path.commonpath([str(Path(path).parent) for path in listed]))


def some(items: Iterable[str], *, limit: int = 8, separator: str = ", ") -> str:
    """The first few of a list, and how many more there are."""
    listed = list(items)
    more = [f"and {len(listed) - limit} more"] if len(listed) > limit else []
    return separator.join(listed[:limit] + more)
