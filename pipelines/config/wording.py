"""What a place of a settings model expects, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.config.nodes import show
from pipelines.config.shapes import Shape

__all__ = ["expectation"]

_NOUNS = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "decimal": ("a number", "numbers"),
    "bool": ("true or false", "values that are true or false"),
    "str": ("text", "texts"),
    "none": ("null", "nulls"),
    "date": ("a date (2026-01-31)", "dates (2026-01-31)"),
    "time": ("a time (12:30:00)", "times (12:30:00)"),
    "datetime": ("a date and time (2026-01-31T12:30:00)", "dates and times (2026-01-31T12:30:00)"),
    "timedelta": ("a duration (P1D, 12:30:00 or seconds)", "durations"),
    "url": ("a URL", "URLs"),
    "multi-host-url": ("a URL", "URLs"),
    "uuid": ("a UUID", "UUIDs"),
    "bytes": ("text", "texts"),
}
_LISTS = frozenset({"list", "tuple", "set", "frozenset"})


def expectation(shape: Shape, *, plural: bool = False) -> str:
    """`a number above 0`, `'auto', 'cpu' or 'cuda'`, `a list of 2 whole numbers`, `text or null`."""
    text = _words(shape, plural)
    return f"{text} or null" if shape.nullable and shape.kind != "any" else text


def _words(shape: Shape, plural: bool) -> str:
    if shape.is_path:
        return "paths" if plural else "a path"
    if shape.kind in ("literal", "enum"):
        choices = _either([show(choice) for choice in shape.choices()])
        return f"values out of {choices}" if plural else choices
    if shape.kind == "union":
        return _either(list(dict.fromkeys(expectation(member, plural=plural) for member in shape.alternatives())))
    if shape.kind in _LISTS:
        return ("lists" if plural else "a list") + _items(shape)
    if shape.kind in ("model", "tagged-union", "dict", "typed-dict", "model-fields"):
        return _mapping(shape, plural)
    nouns = _NOUNS.get(shape.kind, ("any value" if shape.kind == "any" else "a valid value", "values"))
    return nouns[plural] + _bounds(shape)


def _mapping(shape: Shape, plural: bool) -> str:
    if shape.discriminator:
        names = _either(list(shape.variants()))
        return (
            f"sections with a {shape.discriminator} ({names})"
            if plural
            else f"a section with a {shape.discriminator} ({names})"
        )
    if shape.kind == "dict":
        values = shape.item("")
        of = f" of names to {expectation(values, plural=True)}" if values and values.kind != "any" else ""
        return ("mappings" if plural else "a mapping") + of
    keys = list(shape.fields())
    some = f" with keys like {', '.join(keys[:3])}" if keys else ""
    return ("sections" if plural else "a section") + some


def _items(shape: Shape) -> str:
    schema = shape.schema
    if shape.kind == "tuple" and schema.get("variadic_item_index") is None:
        items = [shape.at(item) for item in schema["items_schema"]]
        of_all = {expectation(item, plural=True) for item in items}
        if len(of_all) == 1 and len(items) > 1:
            return f" of {len(items)} {of_all.pop()}"
        return f" of {len(items)}: {', '.join(expectation(item) for item in items)}"
    least, most = schema.get("min_length"), schema.get("max_length")
    count = ""
    if least is not None and most is not None:
        count = f"{least} " if least == most else f"{least} to {most} "
    elif least:
        count = f"{least} or more "
    elif most is not None:
        count = f"at most {most} "
    item = shape.item(0)
    one = (least, most) in ((1, 1),)
    noun = expectation(item, plural=not one) if item and item.kind != "any" else "values"
    return f" of {count if not one else ''}{noun}"


def _bounds(shape: Shape) -> str:
    schema = shape.schema
    parts = []
    if schema.get("ge") is not None and schema.get("le") is not None:
        parts.append(f" from {show(schema['ge'])} to {show(schema['le'])}")
    else:
        words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
        limits = [f"{word} {show(schema[key])}" for key, word in words.items() if schema.get(key) is not None]
        parts.append(" " + " and ".join(limits) if limits else "")
    if schema.get("multiple_of") is not None:
        parts.append(f", a multiple of {show(schema['multiple_of'])}")
    least, most = schema.get("min_length"), schema.get("max_length")
    if least and most is not None:
        parts.append(f" of {least} to {most} characters" if least != most else f" of {least} characters")
    elif least:
        parts.append(f" of at least {least} characters" if least > 1 else " that is not empty")
    elif most is not None:
        parts.append(f" of at most {most} characters")
    if schema.get("pattern") is not None:
        parts.append(f" that matches {_pattern(schema['pattern'])}")
    return "".join(parts)


def _pattern(pattern: Any) -> str:
    return str(getattr(pattern, "pattern", pattern))


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "nothing"
