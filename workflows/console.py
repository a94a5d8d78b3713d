"""What the command line prints: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["complain", "next_steps", "print_json", "print_table", "say"]


def say(line: str) -> None:
    """A line of progress, on standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(f"[dim]•[/dim] {_escape(line)}", soft_wrap=True)


def complain(line: str, *, label: str = "error: ") -> None:
    """A line about what went wrong, on standard error."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(f"[bold red]{label}[/bold red]{_escape(line)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN becomes null."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A table on standard output. Columns whose cells are all numbers stand right."""
    from rich.console import Console
    from rich.table import Table

    body = [[_cell(value) for value in row] for row in rows]
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(body) and all(_is_number(row[index]) for row in body)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(_escape(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


def next_steps(results: Mapping[str, object], commands: Sequence[str]) -> None:
    """Ends a command: where the results are, and what to type next."""
    from rich.console import Console

    console = Console(highlight=False)
    for name, place in results.items():
        console.print(f"[bold]{_escape(name)}[/bold]  {_escape(str(place))}", soft_wrap=True)
    if commands:
        console.print("[dim]next[/dim]", soft_wrap=True)
        for command in commands:
            console.print(f"  {_escape(command)}", soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == "–"
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
