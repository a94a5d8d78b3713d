"""`attention`: the cards of the published mechanisms, and the proof that they are what their authors published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.errors import ConfigurationError, ExitCode
from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, print_table

if TYPE_CHECKING:
    from shared_attention.registry import Card

__all__ = ["attention", "list_attention"]

attention = typer.Typer(help="The published attention mechanisms.", no_args_is_help=True)


@attention.command("list")
def list_attention(json: JsonOption = False) -> int:
    """List the attention mechanisms."""
    from shared_attention import cards

    every = list(cards().values())
    if json:
        print_json([_plain(card) for card in every])
        return ExitCode.OK
    print_table(
        ("name", "kind", "axes", "year", "cost", "title"),
        [(card.name, card.kind, _axes(card), card.year, card.cost, card.title) for card in every],
    )
    next_steps({}, ["pulvinar attention show NAME", "pulvinar run WORKFLOW model.attention.name=NAME"])
    return ExitCode.OK


@attention.command("show")
def show_attention(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A mechanism.")], json: JsonOption = False
) -> int:
    """Show a mechanism's card: paper, cost, arguments, source."""
    from shared_attention import card

    try:
        found = card(name)
    except ValueError as error:
        raise ConfigurationError(str(error), hint="pulvinar attention list") from None
    plain = _plain(found)
    if json:
        print_json(plain)
        return ExitCode.OK
    arguments = plain.pop("arguments")
    rows = [(key, ", ".join(map(str, value)) if isinstance(value, list) else value) for key, value in plain.items()]
    print_table(("card", name), rows)
    if arguments:
        typer.echo()
        print_table(("argument", "type", "default", "meaning"), [(key, *x.values()) for key, x in arguments.items()])
    next_steps({}, [f"pulvinar run WORKFLOW model.attention.name={name}"])
    return ExitCode.OK


def _axes(card: Card) -> str:
    return "/".join(map(str, sorted(card.ranks)))


def _plain(card: Card) -> dict[str, Any]:
    source = card.source
    return {
        "name": card.name,
        "title": card.title,
        "paper": card.paper,
        "year": card.year,
        "kind": card.kind,
        "axes": sorted(card.ranks),
        "order_matters": card.ordered,
        "patterns": list(card.patterns),
        "cost": card.cost,
        "source": f"{source.repository}@{source.commit} ({source.licence})" if source else "",
        "fixtures": list(card.fixtures),
        "notes": card.notes,
        "arguments": {
            name: {
                "type": getattr(argument.annotation, "__name__", None) or str(argument.annotation),
                "default": argument.default,
                "description": argument.description,
            }
            for name, argument in card.arguments.items()
        },
    }
