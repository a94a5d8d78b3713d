"""Paths in settings: a relative one belongs to the file that wrote it.

    class DataSettings(Section):
        images: FilePath

In `project/workflow.yaml`, `images: scans` is `project/scans`; on the command line, `images=scans` is in the current
folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

__all__ = ["FilePath", "PATH_METADATA", "WrittenPath"]

PATH_METADATA = "pulvinar_path"


class WrittenPath(str):
    """Text of a path, with the folder that it is relative to."""

    __slots__ = ("folder",)
    folder: Path

    @classmethod
    def in_folder(cls, text: str, folder: Path) -> WrittenPath:
        """The text, as it was written for that folder."""
        written = cls(text)
        written.folder = folder
        return written


def _resolve(value: Any) -> Path:
    """Absolute, without `~`, `.` and `..`; symbolic links are kept."""
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise PydanticCustomError("path_type", "expected a path")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(value)!r} names a home folder that is not known here") from error
    folder = value.folder if isinstance(value, WrittenPath) else Path.cwd()
    return Path(os.path.abspath(folder / path))


class _FilePath:
    """How pydantic reads a `FilePath` and describes it in a JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            _resolve,
            core_schema.is_instance_schema(Path),
            metadata={PATH_METADATA: True},
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "path", "minLength": 1}


if TYPE_CHECKING:
    FilePath = Path
else:
    FilePath = Annotated[Path, _FilePath()]
