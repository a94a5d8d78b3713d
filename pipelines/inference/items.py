"""Names of results: safe as a folder's name, unique, and never taken over by another scan."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.inference.fingerprint import path_key
from pipelines.task import Item

__all__ = ["FoundItem", "Owner", "fold_name", "name_items", "safe_name"]

_LONGEST = 120
_RESERVED_BEGINNINGS = ("ledger.",)
_RESERVED = ("joined",)


@dataclass(frozen=True)
class FoundItem:
    """An item whose `item_id` is the name of its result.

    Attributes:
        item: The item.
        source: Where it was found, relative to the input that led to it.
        source_key: Names the same place without telling it.
    """

    item: Item
    source: str
    source_key: str


@dataclass(frozen=True)
class Owner:
    """Whose result a name stands for: a place, and the content that was found there."""

    source_key: str
    input_digest: str


def safe_name(name: str) -> str:
    """A name that is safe as a folder's: letters, digits, `.`, `_`, `-` and spaces of any script, not too long."""
    text = unicodedata.normalize("NFC", name)
    text = "".join(
        letter if letter.isalnum() or letter in "._- " or _is_mark(letter) else "_" for letter in text
    ).strip()
    taken = text.lower().startswith(_RESERVED_BEGINNINGS) or text.lower() in _RESERVED
    if not text or text[0] in ".-" or taken:
        text = f"_{text}"
    if len(text.encode()) > _LONGEST:
        shortened = text.encode()[: _LONGEST - 9].decode(errors="ignore")
        text = f"{shortened}-{_short(name)}"
    return text


def name_items(
    items: Sequence[Item],
    inputs: Sequence[Path],
    owner_of: Callable[[str], Owner | None],
    names_of: Callable[[str], Sequence[str]],
    foreign: Callable[[str], bool],
    digest: Callable[[Item], str],
) -> list[FoundItem]:
    """Gives every item a name of its own, the same in every call.

    A name belongs to the place it was first used for. A scan from another place takes it over only when its content is
    the same (the folder was moved); otherwise it is given a name with a suffix, so that no result is ever replaced by
    that of another scan.

    Args:
        items: What was discovered.
        inputs: What the user named; places are told relative to them.
        owner_of: Who has a name already, from the ledger or from the result itself.
        names_of: Names that a place has, by its `source_key`.
        foreign: Whether a name stands for something in the output folder that is not a result.
        digest: Content of an item; empty when it cannot be read.
    """
    found = []
    for item in items:
        source = _source(item, inputs)
        found.append(FoundItem(replace(item, item_id=safe_name(item.item_id)), source, _source_key(item)))
    taken: set[str] = set()
    named: dict[int, FoundItem] = {}
    remembered = {id(one): _remembered(one.item.item_id, names_of(one.source_key)) for one in found}
    for candidate in sorted(found, key=lambda one: not remembered[id(one)]):
        for name in itertools.chain(remembered[id(candidate)], _suggested(candidate)):
            owner = owner_of(name)
            free = fold_name(name) not in taken and not foreign(name)
            if free and (
                owner is None
                or owner.source_key == candidate.source_key
                or (owner.input_digest and owner.input_digest == digest(candidate.item))
            ):
                taken.add(fold_name(name))
                named[id(candidate)] = replace(candidate, item=replace(candidate.item, item_id=name))
                break
    return [named[id(candidate)] for candidate in found]


def _remembered(base: str, names: Sequence[str]) -> list[str]:
    """The names that a place was given for this base: the base itself, or the base with a suffix."""
    return [name for name in names if name == base] or [name for name in names if name.startswith(f"{base}-")]


def _suggested(found: FoundItem) -> Iterator[str]:
    base = found.item.item_id
    yield base
    yield f"{base}-{_short(found.source)}"
    yield f"{base}-{found.source_key[:8]}"
    for number in itertools.count(2):
        yield f"{base}-{found.source_key[:8]}-{number}"


def _source_key(item: Item) -> str:
    key = path_key(item.paths[0]) if item.paths else ""
    return hashlib.sha256(f"{key} {item.kind} {sorted(item.detail.items())}".encode()).hexdigest()[:32]


def _source(item: Item, inputs: Sequence[Path]) -> str:
    if not item.paths:
        return ""
    first, *others = item.paths
    # Files that bear its name (labels, boxes) go with the first one; other files make a folder of it.
    beside = all(one.parent == first.parent and one.name.startswith(f"{first.stem}.") for one in others)
    path = os.path.abspath(first if beside else first.parent)
    above = [folder for folder in map(os.path.abspath, inputs) if path.startswith(folder.rstrip(os.sep) + os.sep)]
    return os.path.relpath(path, max(above, key=len)) if above else os.path.basename(path)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def fold_name(name: str) -> str:
    """What two names have in common that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")
