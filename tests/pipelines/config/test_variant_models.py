"""Variants made of plain data behave as sections written by hand."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from pipelines.config import Section, union_of, variant

Spread = variant("spread_out", {"size": (tuple[int, ...], (7, 7), "Extent."), "rate": (float, ..., "Rate.")})
Plain = variant("plain", {})


def test_a_variant_is_a_closed_frozen_section_with_a_name() -> None:
    made = Spread(rate=0.5)  # type: ignore[call-arg]
    assert made.model_dump() == {"name": "spread_out", "size": (7, 7), "rate": 0.5}
    assert isinstance(made, Section)
    assert Spread.__name__ == "SpreadOut"
    assert Spread.model_fields["rate"].description == "Rate."
    with pytest.raises(ValidationError):
        made.rate = 1  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        Spread(rate=1, other=2)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Spread()


def test_a_union_chooses_by_name() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(union_of([Spread, Plain]))
    assert type(adapter.validate_python({"name": "plain"})) is Plain
    assert type(adapter.validate_python({"name": "spread_out", "rate": 1})) is Spread


def test_a_union_of_one_is_that_one() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(union_of([Plain]))
    assert adapter.validate_python({"name": "plain"}) == Plain()
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": "other"})


@pytest.mark.parametrize("argument", ["name", "class", "_hidden", "model_dump", "not a name", "copy"])
def test_arguments_that_cannot_be_settings_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="cannot be an argument of a variant"):
        variant("x", {argument: (int, 1, "")})


def test_unions_need_variants_of_different_names() -> None:
    with pytest.raises(ValueError, match="at least one"):
        union_of([])
    with pytest.raises(ValueError, match="two variants have the name plain"):
        union_of([Plain, variant("plain", {})])


def test_constraints_of_arguments_hold() -> None:
    made = variant("bounded", {"count": (Annotated[int, Field(ge=1)], 1, "Count.")})
    with pytest.raises(ValidationError):
        made(count=0)  # type: ignore[call-arg]
