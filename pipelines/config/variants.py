"""Settings models for choices with arguments of their own, built from plain data.

    full = variant("full", {"heads": (int, 4, "Heads.")})
    window = variant("window", {"heads": (int, 4, "Heads."), "window": (tuple[int, ...], (7, 7), "Extent, in tokens.")})

    class Model(Section):
        attention: union_of([full, window]) = full()

In a workflow file: `attention: {name: window, window: [4, 4]}`.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from pipelines.config.section import Section

__all__ = ["union_of", "variant"]

_TAG = "name"


class _Variant(Section):
    """A section without a source to look for descriptions in: looking for it takes most of the time of making one."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def variant(name: str, arguments: Mapping[str, tuple[Any, Any, str]], *, description: str = "") -> type[Section]:
    """A section that is chosen by `name` and takes these arguments.

    Args:
        name: What a workflow file says to choose it.
        arguments: Argument → (annotation, default, description); a default of `...` makes it required.
        description: What the choice is.

    Raises:
        ValueError: An argument cannot be the name of a setting.
    """
    fields: dict[str, Any] = {_TAG: (Literal[name], Field(default=name, description="Which one this is."))}
    for argument, (annotation, default, text) in arguments.items():
        refused = argument == _TAG or keyword.iskeyword(argument) or hasattr(BaseModel, argument)
        if refused or not argument.isidentifier() or argument.startswith("_"):
            raise ValueError(f"{name}: {argument!r} cannot be an argument of a variant; rename it")
        fields[argument] = (annotation, Field(default=default, description=text or None))
    title = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    made: type[Section] = create_model(title or "Variant", __base__=_Variant, __doc__=description or None, **fields)
    return made


def union_of(variants: Sequence[type[Section]]) -> Any:
    """The annotation of a setting that is one of these variants, chosen by its `name`.

    Raises:
        ValueError: There is no variant, or two have one name.
    """
    names = [made.model_fields[_TAG].default for made in variants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ValueError(
            f"two variants have the name {', '.join(twice)}" if twice else "a union needs at least one variant"
        )
    if len(variants) == 1:
        return variants[0]
    return Annotated[reduce(or_, variants), Field(discriminator=_TAG)]
