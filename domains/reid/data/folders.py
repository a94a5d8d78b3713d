"""Pictures whose path tells the identity.

{identity}/{camera}_*.png            a folder for each identity
images/{type}_{number}_cam{camera}.jpg   with identity: "{type}_{number}"
jpg/image_{number}.jpg                   with numbered: 80, where a running number alone tells the class
"""

from __future__ import annotations

import re

from domains.reid.data.files import files_below
from domains.reid.data.records import ImageRecord, Records, record_name
from domains.reid.data.settings import IdentityFolders
from pipelines.errors import DataError

__all__ = ["read_identity_folders"]

_KNOWN = ("camera", "view", "track", "identity")
_PIECE = re.compile(r"\{(\w+)\}|(\*)")


def read_identity_folders(settings: IdentityFolders) -> Records:
    """Reads the pictures of a pattern, in the order of their names.

    Raises:
        DataError: There is no such folder, the identity is not told, or no picture matches.
    """
    root = settings.root
    if not root.is_dir():
        raise DataError(f"no folder {root.name!r} in {root.parent.name!r}", hint="Check `data.root`.")
    expression = _expression(settings.pattern)
    template = _template(settings, tuple(expression.groupindex))
    # A number that identities are made of says nothing more about them.
    counted = {name for name, _ in _PIECE.findall(template)}
    records = Records(root)
    for path in records.pictures(files_below(root)):
        relative = path.relative_to(root)
        matched = expression.fullmatch(relative.as_posix())
        if matched is None:
            records.skip(path, f"does not match {settings.pattern!r}")
            continue
        told = {name: value for name, value in matched.groupdict().items() if value is not None}
        identity = template.format_map(told)
        if settings.numbered is not None:
            if not identity.isdecimal() or int(identity) < 1:
                records.skip(path, f"{identity!r} is not a running number from 1")
                continue
            identity = f"{(int(identity) - 1) // settings.numbered:03d}"
        attributes = {
            name: value
            for name, value in told.items()
            if name not in _KNOWN and not (name in counted and value.isdecimal())
        }
        records.used.append(
            ImageRecord(
                name=record_name(root, path),
                path=path,
                identity=identity,
                camera=told.get("camera", ""),
                view=told.get("view", ""),
                track=told.get("track", ""),
                attributes=attributes,
            )
        )
    if not records.used:
        some = ", ".join(list(records.skipped)[:3]) or "no pictures"
        raise DataError(f"no picture matches {settings.pattern!r}; there are: {some}", hint="Check `data.pattern`.")
    return records


def _template(settings: IdentityFolders, names: tuple[str, ...]) -> str:
    if settings.identity is not None:
        template = settings.identity
    elif "identity" in names:
        template = "{identity}"
    elif settings.numbered is not None and "number" in names:
        template = "{number}"
    else:
        raise DataError(
            f"data.pattern {settings.pattern!r} does not tell the identity",
            hint="Write {identity} in it, or say under data.identity what the identity is made of.",
        )
    missing = [name for name, _ in _PIECE.findall(template) if name and name not in names]
    if missing or not _PIECE.search(template):
        raise DataError(
            f"data.identity {template!r} needs {{{missing[0] if missing else 'NAME'}}}; the pattern has "
            + ", ".join(f"{{{name}}}" for name in names),
            hint="Use placeholders of data.pattern.",
        )
    return template


def _expression(pattern: str) -> re.Pattern[str]:
    pieces, position, seen = [], 0, set[str]()
    for piece in _PIECE.finditer(pattern):
        pieces.append(re.escape(pattern[position : piece.start()]))
        position = piece.end()
        name = piece.group(1)
        if name is None:
            pieces.append("[^/]*")
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            pieces.append(f"(?P<{name}>[^/]+?)")
            seen.add(name)
    pieces.append(re.escape(pattern[position:]))
    return re.compile("".join(pieces))
