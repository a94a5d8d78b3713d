"""A configuration as YAML that loads again to an equal configuration."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import BaseModel

from pipelines.config.reading import read_scalar

__all__ = ["dump_yaml"]

_Dumper: Any = yaml.SafeDumper
_REFERENCE = re.compile(r"(\\*)\$\{")


class _WorkflowDumper(_Dumper):  # type: ignore[misc]
    """Writes scalars so that YAML 1.1 and 1.2 readers take them for the same."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump_yaml(config: BaseModel, *, portable: bool = False) -> str:
    """The resolved configuration as a workflow file, every key written out.

    Args:
        config: The configuration.
        portable: Tell nothing of this machine: paths below the data folder are written as `${env:PULVINAR_DATA}/…`,
            those below the home folder as `~/…`, and of others only the name, which then no longer leads anywhere.
    """
    values = _plain(config.model_dump(mode="python", round_trip=True), _path_writer(portable))
    text: str = yaml.dump(
        values, Dumper=_WorkflowDumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=4096
    )
    return text


def _path_writer(portable: bool) -> Any:
    if not portable:
        return lambda path: _escape(str(path))
    from pipelines.fixtures import data_root

    root = data_root()
    data = Path(os.path.abspath(root)) if root is not None else None

    def write(path: PurePath) -> str:
        if data is not None and path.is_relative_to(data):
            return f"${{env:PULVINAR_DATA}}/{_escape(path.relative_to(data).as_posix())}"
        if path.is_relative_to(Path.home()):
            return f"~/{_escape(path.relative_to(Path.home()).as_posix())}"
        return _escape(path.name if path.is_absolute() else str(path))

    return write


def _plain(value: Any, write_path: Any) -> Any:
    """Mappings, lists and scalars, as YAML has them."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, PurePath):
        return write_path(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, write_path) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, write_path) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_plain(item, write_path) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _escape(str(value))


def _key(key: Any) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _escape(text: str) -> str:
    r"""Text whose `${` is meant as it stands: `\${`, with backslashes before it doubled, as OmegaConf reads them."""
    return _REFERENCE.sub(lambda match: match.group(1) * 2 + "\\${", text)


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = None if isinstance(read_scalar(text), str) else "'"
    if any(not character.isprintable() for character in text):
        style = '"'
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


def _represent_float(dumper: Any, number: float) -> yaml.ScalarNode:
    text = repr(number)
    if not math.isfinite(number):
        text = {math.inf: ".inf", -math.inf: "-.inf"}.get(number, ".nan")
    elif "." not in text and "e" in text:
        text = text.replace("e", ".0e")  # YAML 1.1 readers take a number for text where it has no point
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:float", text)
    return node


_WorkflowDumper.add_representer(str, _represent_text)
_WorkflowDumper.add_representer(float, _represent_float)
