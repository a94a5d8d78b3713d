"""What leaves the machine names no folder, user or machine.

Folders that mean something are replaced by what they mean (`runs`, `${env:PULVINAR_DATA}`); any other absolute path
keeps its last part only: `/mnt/ward7/export/scan.nii.gz` becomes `…/scan.nii.gz`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DATA_VARIABLES", "Scrubber", "pseudonyms"]

DATA_VARIABLES = ("PULVINAR_DATA",)
"""Environment variables that name a folder of data; their value is replaced by `${env:NAME}`."""

_PART = r"[^\s/\\'\"<>|,;:()\[\]{}*?]+"
_POSIX = re.compile(rf"(?<![\w.~$}}:/<\\…*)\]+%-])(?:file://)?/(?:{_PART}/)+({_PART})?")
_FILE_URI = re.compile(rf"file:/+(?:{_PART}/)*({_PART})?")
_WINDOWS = re.compile(rf"(?<![\w])(?:[A-Za-z]:[\\/]|\\\\)(?:{_PART}[\\/])*({_PART})?")
_QUOTED = re.compile(r"(?P<quote>['\"])(?:/|[A-Za-z]:[\\/])[^'\"\n]*[\\/](?P<last>[^'\"\n/\\]*)(?P=quote)")
_DATABASE = re.compile(rf"(?P<scheme>\b[a-z]+(?:\+[a-z0-9]+)?:///)/(?:{_PART}/)*(?P<last>{_PART})?")
_HOME = re.compile(rf"(?<![\w.])/(?:home|Users)/{_PART}")
_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]+@", re.IGNORECASE)
_PLAIN_HOSTS = {"localhost", "host", "server", "main", "master", "node"}


class Scrubber:
    """Replaces folders, the machine's name and passwords in text.

    Args:
        run: The run folder; becomes its own name.
        output: The folder of run folders; becomes its own name.
    """

    def __init__(self, run: Path | None = None, output: Path | None = None) -> None:
        known: dict[str, str] = {}
        for variable in DATA_VARIABLES:
            if value := os.environ.get(variable):
                known |= dict.fromkeys(_spellings(Path(value)), f"${{env:{variable}}}")
        if run is not None:
            known |= dict.fromkeys(_spellings(run), run.resolve().name)
        if output is not None:
            known |= dict.fromkeys(_spellings(output), output.resolve().name)
        known |= dict.fromkeys(_spellings(Path.cwd()), ".")
        self._folders = sorted(
            ((folder, name) for folder, name in known.items() if len(Path(folder).parts) > 1),
            key=lambda pair: -len(pair[0]),
        )
        hosts = {socket.gethostname(), socket.gethostname().partition(".")[0]}
        named = sorted((host for host in hosts if len(host) > 3 and host.lower() not in _PLAIN_HOSTS), key=len)
        self._host = re.compile("|".join(rf"\b{re.escape(host)}\b" for host in reversed(named))) if named else None

    def text(self, text: str) -> str:
        """The text without absolute paths, passwords in addresses, and the machine's name."""
        text = _CREDENTIALS.sub(r"\g<scheme>***@", text)
        for folder, name in self._folders:
            if folder in text:
                literal = name.replace("\\", r"\\")
                text = re.sub(rf"(?:file:/{{0,2}})?{re.escape(folder)}(?![\w.-])", literal, text)
        text = _HOME.sub("~", text)
        text = _QUOTED.sub(r"\g<quote>…/\g<last>\g<quote>", text)
        text = _DATABASE.sub(r"\g<scheme>…/\g<last>", text)
        text = _FILE_URI.sub(_last_part, text)
        text = _WINDOWS.sub(_last_part, text)
        text = _POSIX.sub(_last_part, text)
        return self._host.sub("…", text) if self._host is not None else text

    def value(self, value: Any) -> Any:
        """The same for plain values, into lists and mappings (keys too)."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(entry) for entry in value]
        if isinstance(value, Path):
            return self.text(str(value))
        return value


def pseudonyms(groups: list[str]) -> dict[str, str]:
    """Group → `group-0001`, in order of first appearance: a group may be a patient's identifier and is never sent."""
    return {group: f"group-{number:04d}" for number, group in enumerate(dict.fromkeys(groups), start=1)}


def _spellings(folder: Path) -> set[str]:
    return {str(folder.absolute()), str(folder.resolve())}


def _last_part(match: re.Match[str]) -> str:
    return f"…/{match.group(1)}" if match.group(1) else "…"
