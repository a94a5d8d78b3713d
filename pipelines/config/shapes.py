"""What a settings model accepts at each key: read from pydantic's core schema, so that it is what validation uses.

A `Shape` is one place of a model. It can be walked by key, names the keys or choices that are allowed there, holds the
default and the description, and says in words what it expects ("a whole number of at least 1").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.config.nodes import Node
from pipelines.config.paths import PATH_METADATA

__all__ = ["Shape"]

_WRAPPERS = {
    "default": "schema",
    "nullable": "schema",
    "function-before": "schema",
    "function-after": "schema",
    "function-wrap": "schema",
    "model-field": "schema",
    "typed-dict-field": "schema",
    "custom-error": "schema",
    "json-or-python": "python_schema",
    "lax-or-strict": "lax_schema",
}


@dataclass(frozen=True)
class Shape:
    """One place of a settings model.

    Attributes:
        schema: pydantic's core schema there, without its wrappers.
        definitions: Schemas that others refer to.
        nullable: Whether null is allowed.
        is_path: Whether it is a `FilePath`.
        field: The field that it is the value of, if it is one.
    """

    schema: Mapping[str, Any]
    definitions: Mapping[str, Any]
    nullable: bool = False
    is_path: bool = False
    field: FieldInfo | None = None

    @classmethod
    def of(cls, model: type[BaseModel]) -> Shape:
        """The shape of a whole model."""
        if not isinstance(model.__pydantic_core_schema__, dict):
            model.model_rebuild(force=True)
        return cls._unwrapped(dict(model.__pydantic_core_schema__), {}, None)

    @classmethod
    def _unwrapped(cls, schema: Any, definitions: Mapping[str, Any], field: FieldInfo | None) -> Shape:
        nullable = is_path = False
        while True:
            kind = schema["type"]
            is_path = is_path or PATH_METADATA in schema.get("metadata", {})
            if kind == "definitions":
                definitions = {**definitions, **{inner["ref"]: inner for inner in schema["definitions"]}}
                schema = schema["schema"]
            elif kind == "definition-ref":
                schema = definitions[schema["schema_ref"]]
            elif kind == "chain":
                schema = schema["steps"][0]
            elif kind in _WRAPPERS:
                nullable = nullable or kind == "nullable"
                schema = schema[_WRAPPERS[kind]]
            elif kind == "model" and schema.get("root_model"):
                schema = schema["schema"]
            else:
                return cls(schema, definitions, nullable, is_path, field)

    def at(self, schema: Any, field: FieldInfo | None = None) -> Shape:
        """The shape of a schema inside this one."""
        return self._unwrapped(schema, self.definitions, field)

    @property
    def kind(self) -> str:
        """pydantic's name of the schema: `model`, `tagged-union`, `int`, …"""
        return str(self.schema["type"])

    @property
    def model(self) -> type[BaseModel] | None:
        """The settings class, for a section."""
        return self.schema["cls"] if self.kind == "model" else None

    def fields(self) -> dict[str, Shape]:
        """Keys of a section, in the order of the class."""
        return self._fields

    def variants(self) -> dict[str, Shape]:
        """Names and shapes of the variants of a discriminated union."""
        return self._variants

    @cached_property
    def _fields(self) -> dict[str, Shape]:
        model = self.model
        if model is None:
            return {}
        inner = self.at(self.schema["schema"]).schema
        schemas = inner.get("fields", {})
        found = {}
        for name, info in model.model_fields.items():
            if name in schemas:
                alias = schemas[name].get("validation_alias")
                found[alias if isinstance(alias, str) else name] = self.at(schemas[name], info)
        return found

    @property
    def discriminator(self) -> str:
        """The key that chooses between variants, or an empty string where there are none."""
        found = self.schema.get("discriminator") if self.kind == "tagged-union" else None
        return found if isinstance(found, str) else ""

    @cached_property
    def _variants(self) -> dict[str, Shape]:
        if not self.discriminator:
            return {}
        choices = self.schema["choices"]
        return {
            str(tag): self.at(choices[choice] if isinstance(choice, str) else choice) for tag, choice in choices.items()
        }

    def alternatives(self) -> list[Shape]:
        """Members of a union without a discriminator."""
        if self.kind != "union":
            return []
        return [self.at(choice[0] if isinstance(choice, tuple) else choice) for choice in self.schema["choices"]]

    def variant(self, node: Node | None) -> Shape | None:
        """The variant that a mapping has chosen, or the one that is the default, or None."""
        chosen = node.child(self.discriminator) if node is not None else None
        tag = chosen.value if chosen is not None else self.default_tag
        return self.variants().get(str(tag)) if tag is not None else None

    @property
    def default_tag(self) -> str | None:
        """The name of the variant that is the default of this field."""
        default = self.default
        tag = (
            getattr(default, self.discriminator, None)
            if self.discriminator and isinstance(default, BaseModel)
            else None
        )
        return tag if isinstance(tag, str) else None

    @property
    def default(self) -> Any:
        """The default of the field, or `PydanticUndefined`."""
        return self.field.get_default(call_default_factory=True) if self.field is not None else PydanticUndefined

    def item(self, key: str | int) -> Shape | None:
        """The shape of an item of a list, or of a value of a free mapping."""
        if self.kind == "dict" and "values_schema" in self.schema:
            return self.at(self.schema["values_schema"])
        if self.kind in ("list", "set", "frozenset", "generator"):
            return self.at(self.schema["items_schema"]) if "items_schema" in self.schema else None
        if self.kind == "tuple" and str(key).isdigit():
            items = self.schema["items_schema"]
            variadic = self.schema.get("variadic_item_index")
            index = int(key)
            if variadic is not None:
                index = min(index, variadic)
            return self.at(items[index]) if index < len(items) else None
        return None

    def keys(self) -> Shape | None:
        """The shape of the keys of a free mapping."""
        return self.at(self.schema["keys_schema"]) if self.kind == "dict" and "keys_schema" in self.schema else None

    def child(self, key: str | int, node: Node | None = None) -> Shape | None:
        """The shape under a key.

        Args:
            key: Key or index.
            node: What is written here; it says which variant is meant.
        """
        if self.kind == "model":
            return self.fields().get(str(key))
        if self.discriminator:
            chosen = self.variant(node)
            return chosen.child(key, node) if chosen else None
        if self.kind == "union":
            fitting = self.fitting(node)
            return next((found for shape in fitting if (found := shape.child(key, node))), None)
        return self.item(key)

    def fitting(self, node: Node | None) -> list[Shape]:
        """Members of a union that hold values of the same make: sections for mappings, lists for lists."""
        value = node.value if node is not None else None
        if isinstance(value, dict):
            return [shape for shape in self.alternatives() if shape.kind in ("model", "dict", "tagged-union")]
        if isinstance(value, list):
            return [shape for shape in self.alternatives() if shape.kind in ("list", "tuple", "set", "frozenset")]
        return []

    def leaves(self) -> Iterator[Shape]:
        """This shape, or the members of a union, all the way down."""
        alternatives = self.alternatives()
        if not alternatives:
            yield self
        for shape in alternatives:
            yield from shape.leaves()

    def choices(self) -> list[Any]:
        """Allowed values, where they are a closed set: literals, enumerations, names of variants."""
        found: list[Any] = []
        for shape in self.leaves():
            if shape.kind == "literal":
                found += shape.schema["expected"]
            elif shape.kind == "enum":
                found += [member.value for member in shape.schema["members"]]
            elif shape.kind == "tagged-union":
                found += shape.variants()
        return found
