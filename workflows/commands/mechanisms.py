"""`attention`: the cards of the published mechanisms, and the proof that they are what their authors published."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer

from pipelines.errors import ConfigurationError, EnvironmentProblem, ExitCode
from workflows.commands.arguments import JsonOption
from workflows.commands.benching import bench_attention
from workflows.console import next_steps, print_json, print_table

if TYPE_CHECKING:
    from shared_attention.registry import Card

__all__ = ["attention", "list_attention"]

attention = typer.Typer(help="The published attention mechanisms.", no_args_is_help=True)
attention.command("bench")(bench_attention)


@attention.command("list")
def list_attention(json: JsonOption = False) -> int:
    """List the attention mechanisms."""
    from shared_attention import cards

    every = list(cards().values())
    if json:
        print_json([_plain(card) for card in every])
        return ExitCode.OK
    print_table(
        ("name", "kind", "axes", "order", "cost", "mechanism"),
        [
            (card.name, card.kind, _axes(card), "matters" if card.ordered else "–", _growth(card), _titled(card))
            for card in every
        ],
    )
    next_steps({}, ["pulvinar attention show NAME", "pulvinar run WORKFLOW model.attention.name=NAME"])
    return ExitCode.OK


@attention.command("show")
def show_attention(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A mechanism.")], json: JsonOption = False
) -> int:
    """Show a mechanism's card: what is computed, paper, cost, arguments, published code."""
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
    print_table(("card", plain.pop("name")), [(key.replace("_", " "), value) for key, value in rows[1:] if value != ""])
    if arguments:
        typer.echo()
        print_table(("argument", "type", "default", "meaning"), [(key, *x.values()) for key, x in arguments.items()])
    steps = [f"pulvinar attention verify {name}"] if found.fixtures else []
    if found.kind in ("mixer", "gate"):
        steps.append(f"pulvinar run WORKFLOW model.attention.name={name}")
    next_steps({"page": f"docs/reference/attention/{name}.md"}, steps)
    return ExitCode.OK


@attention.command("verify")
def verify_attention(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="References or mechanisms; all of them by default.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(help="Folder of reference outputs; the one that PULVINAR_GOLDEN names by default.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Hold each mechanism against what its authors' code computes."""
    from pipelines.fixtures import golden_root
    from shared_attention.parity import verify
    from workflows.tasks import register_network_adapters

    register_network_adapters()
    folder = golden or golden_root()
    if folder is None or not folder.is_dir():
        raise EnvironmentProblem(
            f"there are no reference outputs at {folder}" if folder else "there are no reference outputs here",
            hint="Name their folder: --golden DIR, or the variable PULVINAR_GOLDEN.",
        )
    try:
        verdicts = verify(folder, names)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    wrong = [verdict for verdict in verdicts if not verdict.good]
    if json:
        print_json([verdict.as_dict() for verdict in verdicts])
        return ExitCode.CRASH if wrong else ExitCode.OK
    print_table(
        ("reference", "mechanism", "verdict", "largest difference", "allowed", ""),
        [
            (x.case, x.mechanism, x.status, _small(x.difference), _small(x.tolerance), x.message)
            for x in verdicts
            if names or x.status != "unclaimed"
        ],
    )
    equal = sum(verdict.status == "equal" for verdict in verdicts)
    unclaimed = sum(verdict.status == "unclaimed" for verdict in verdicts)
    typer.echo(f"{equal} equal, {len(wrong)} wrong; {unclaimed} references are of mechanisms that are not here")
    next_steps({}, ["pulvinar attention list"])
    return ExitCode.CRASH if wrong else ExitCode.OK


def _small(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"


def _axes(card: Card) -> str:
    return "/".join(map(str, sorted(card.ranks)))


def _growth(card: Card) -> str:
    """How the cost of the largest grid that is served grows with its tokens, as `N` or `N^1.5`."""
    power = round(card.growth(max(card.ranks)), 1)
    return {1.0: "N", 2.0: "N²"}.get(power, f"N^{power}")


def _titled(card: Card) -> str:
    return f"{card.title}, {card.year}"


def _plain(card: Card) -> dict[str, Any]:
    source = card.source
    return {
        "name": card.name,
        "title": card.title,
        "formula": card.formula,
        "paper": card.paper,
        "year": card.year,
        "kind": card.kind,
        "family": card.family,
        "axes": sorted(card.ranks),
        "order_matters": card.ordered,
        "patterns": list(card.patterns),
        "cost": card.cost,
        "cost_grows": _growth(card),
        "source": f"{source.repository}@{source.commit} ({source.licence})" if source else "",
        "fixtures": list(card.fixtures),
        "notes": card.notes,
        "arguments": {
            name: {
                "type": _type_name(argument.annotation),
                "default": argument.default,
                "description": argument.description,
            }
            for name, argument in card.arguments.items()
        },
    }


def _type_name(annotation: Any) -> str:
    """An annotation as it is written: `int`, `tuple[int, ...] | Literal['half']`."""
    members = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(_type_name(member) for member in members)
    if annotation is type(None):
        return "None"
    return (
        annotation.__name__ if isinstance(annotation, type) and not members else str(annotation).replace("typing.", "")
    )
