"""The JSON Schema that editors complete workflow files from.

Put `# yaml-language-server: $schema=pulvinar.schema.json` at the top of a workflow.
"""

from __future__ import annotations

from typing import Any

from pipelines.config.layers import EXTENDS
from pipelines.task import registered_tasks

__all__ = ["json_schema"]

_REFERENCE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "A reference: ${section.key}, ${env:NAME} or ${env:NAME,default}.",
}
_EXTENDS = {
    "description": "Workflow files that this one builds on, relative to it; later ones win, and this one over all.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
    ],
}
_SUBSCHEMAS = ("items", "additionalProperties", "contains")
_LISTS = ("prefixItems", "anyOf", "allOf")


def json_schema() -> dict[str, Any]:
    """One JSON Schema (draft 2020-12) for the workflows of all registered tasks.

    What follows `task` decides which keys there are. A file that extends others may leave out what they hold. A `${…}`
    may stand wherever a value may.
    """
    definitions: dict[str, Any] = {"reference": _REFERENCE}
    rules = []
    names = []
    for entry in registered_tasks():
        names.append(entry.name)
        schema = entry.load().Config.model_json_schema(ref_template=f"#/$defs/{_pointer(entry.name)}.{{model}}")
        whole = {"properties": {"task": {"const": entry.name}}, "required": ["task"]}
        for partial in (False, True):
            prefix = f"{entry.name}.partial" if partial else entry.name
            for name, inner in schema.get("$defs", {}).items():
                definitions[f"{prefix}.{name}"] = _relaxed(inner, entry.name, partial)
            top = _relaxed({key: value for key, value in schema.items() if key != "$defs"}, entry.name, partial)
            top["properties"] = {EXTENDS: _EXTENDS, **top["properties"], "task": {"const": entry.name}}
            definitions[prefix] = top
            extending = {"required": [EXTENDS]} if partial else {"not": {"required": [EXTENDS]}}
            rules.append({"if": {"allOf": [whole, extending]}, "then": {"$ref": f"#/$defs/{_pointer(prefix)}"}})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pulvinar workflow",
        "type": "object",
        "properties": {"task": {"enum": names, "description": "Which task this is."}, EXTENDS: _EXTENDS},
        "anyOf": [{"required": ["task"]}, {"required": [EXTENDS]}],
        "allOf": rules,
        "$defs": definitions,
    }


def _pointer(name: str) -> str:
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _relaxed(schema: Any, task: str, partial: bool) -> dict[str, Any]:
    """A schema that also takes references; for a partial file, one that asks for nothing."""
    changed: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "discriminator" or (key == "required" and partial):
            continue
        if key == "properties":
            changed[key] = {name: _or_reference(_relaxed(inner, task, partial)) for name, inner in value.items()}
        elif key == "oneOf":
            # a section may leave its name out, and then fits several
            changed["anyOf"] = [_relaxed(inner, task, partial) for inner in value]
        elif key in _LISTS:
            changed[key] = [_relaxed(inner, task, partial) for inner in value]
            if key == "prefixItems":
                changed[key] = [_or_reference(inner) for inner in changed[key]]
        elif key in _SUBSCHEMAS and isinstance(value, dict):
            changed[key] = _or_reference(_relaxed(value, task, partial))
        elif key == "$ref" and partial:
            changed[key] = value.replace(f"#/$defs/{_pointer(task)}.", f"#/$defs/{_pointer(task)}.partial.")
        else:
            changed[key] = value
    return changed


def _or_reference(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, or a `${…}` in its place. What chooses a variant stays as it is, so that it still chooses."""
    if "const" in schema or (
        schema.get("type") == "string" and not schema.keys() & {"pattern", "enum", "maxLength", "format"}
    ):
        return schema
    told: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return {
        **told,
        "anyOf": [{key: value for key, value in schema.items() if key not in told}, {"$ref": "#/$defs/reference"}],
    }
