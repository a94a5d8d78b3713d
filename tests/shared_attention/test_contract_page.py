"""The page on adding a mechanism shows the files as they are, and knows every field and part that there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import shared_attention.grids
import shared_attention.positions
from shared_attention import Card

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "attention-contract.md").read_text(encoding="utf-8")


def test_files_are_shown_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)\n```\n", PAGE, re.DOTALL)
    assert len(shown) == 3
    for path, text in shown:
        assert text == (ROOT / path).read_text(encoding="utf-8").rstrip(), path


def test_every_field_and_part_is_named() -> None:
    fields = {one.name for one in dataclasses.fields(Card)} - {"mechanism"}
    parts = {*shared_attention.grids.__all__, *shared_attention.positions.__all__} - {"pad_grid", "group_grid"}
    assert [name for name in sorted(fields | parts) if f"`{name}`" not in PAGE] == []
