"""The lists that benchmarks come with: plain text, and the XML of VeRi-776."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from pipelines.errors import DataError

__all__ = ["list_lines", "veri_attributes"]

_DECLARED = re.compile(rb"""<\?xml[^>]*encoding=["']([A-Za-z0-9._-]+)["'][^>]*\?>""")


def list_lines(path: Path, words: int) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is not blank; the last word is the rest of the line, blanks and all.

    Raises:
        DataError: A line has too few words, or the file is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: {error.reason}", hint="Save it as UTF-8.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        found = line.split(maxsplit=words - 1)
        if not found:
            continue
        if len(found) < words:
            raise DataError(f"{path.name}, line {number}: {line!r} has {len(found)} words, {words} are needed")
        yield number, [word.strip() for word in found]


def veri_attributes(path: Path) -> dict[str, Mapping[str, str]]:
    """File name → `colour` and `type`, from `train_label.xml` or `test_label.xml` of VeRi-776.

    Both are the numbers of the set. The files call themselves gb2312, which Python's parser does not take, so they are
    decoded here.

    Raises:
        DataError: The file is no XML, or an item lacks its name.
    """
    raw = path.read_bytes()
    declared = _DECLARED.search(raw[:200])
    try:
        text = raw.decode(declared[1].decode() if declared else "utf-8")
        root = ElementTree.fromstring(re.sub(r"<\?xml[^>]*\?>", "", text, count=1))
    except (UnicodeDecodeError, LookupError, ElementTree.ParseError) as error:
        raise DataError(f"{path.name} cannot be read as XML: {error}", hint="Copy it again, or remove it.") from error
    found: dict[str, Mapping[str, str]] = {}
    for item in root.iter("Item"):
        name = item.get("imageName")
        if name is None:
            raise DataError(f"{path.name}: an item without imageName: {dict(item.attrib)}")
        told = {"colour": item.get("colorID"), "type": item.get("typeID")}
        found[name] = {key: value for key, value in told.items() if value}
    return found
