"""Writes a page for each attention mechanism from its card, its figure and the measured parity, and the table of all.

Parity is measured where the references are, with `python docs/generate.py --parity`, and kept as a table; without
references the kept numbers stay.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from shared_attention import Card, cards
from shared_attention.parity import verify

__all__ = ["FOLDER", "INDEX", "PARITY", "Measured", "measure_parity", "page", "pages", "table"]

FOLDER = Path(__file__).parent / "reference" / "attention"
INDEX = FOLDER / "index.md"
PARITY = FOLDER / "parity.csv"
TOKENS, CHANNELS = 4096, 64
"""The example that a cost is computed for: an image of 64 x 64 places."""

_KINDS = {
    "mixer": "token mixer: `(B, *S, C)` to the same",
    "gate": "gate, a token mixer that only weighs its input: `(B, *S, C)` to the same",
    "pool": "pool: `(B, *S, C)` to `(B, K, C)`",
    "pair": "pair: `(B, *S, C)` and `(B, *T, E)` to the same two",
    "reducer": "reducer: `(B, *S, C)` to fewer tokens `(B, K, E)`, with the way back to the grid",
}
_PATTERNS = {
    "self": "at the tokens themselves",
    "causal": "at the own token and those before it",
    "cross": "at a context",
    "causal cross": "at a context up to the own place",
}


class Measured(NamedTuple):
    """What holding one case against the authors' code gave."""

    case: str
    mechanism: str
    difference: float
    tolerance: float


def measure_parity(golden: Path) -> None:
    """Hold every mechanism against the references and keep the differences.

    Raises:
        SystemExit: One of them is wrong; nothing is written then.
    """
    verdicts = [one for one in verify(golden) if one.mechanism in cards()]
    if wrong := [one.case for one in verdicts if not one.good]:
        raise SystemExit(f"not equal to the authors' code: {', '.join(wrong)}; see pulvinar attention verify")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Measured._fields)
    for one in verdicts:
        writer.writerow([one.case, one.mechanism, f"{one.difference:.1e}", f"{one.tolerance:.0e}"])
    PARITY.write_text(text.getvalue(), encoding="utf-8")
    parity.cache_clear()


@cache
def parity() -> tuple[Measured, ...]:
    """The kept measurements."""
    if not PARITY.is_file():
        return ()
    rows = csv.DictReader(io.StringIO(PARITY.read_text(encoding="utf-8")))
    return tuple(
        Measured(row["case"], row["mechanism"], float(row["difference"]), float(row["tolerance"])) for row in rows
    )


def pages() -> dict[Path, str]:
    """The page of every mechanism as it should be now."""
    return {FOLDER / f"{name}.md": page(card) for name, card in cards().items()}


def page(card: Card) -> str:
    """The page of one mechanism."""
    parts = [
        f"# {card.title}",
        f"<!-- written by docs/generate.py from the card of {card.name}: change the card, not this page -->",
        f"`{card.name}` · {_cited(card.paper)} · [all mechanisms](index.md)",
        "\n".join(_facts(card)),
        f"## What is computed\n\n{_summary(card)}\n\n```\n{card.formula}\n```\n\n[Notation](index.md#notation).",
        f"## Use\n\n{_use(card)}",
        f"## Arguments\n\n{_arguments(card)}",
        f"## What looks at what\n\n{_figure(card)}",
        f"## Held against published code\n\n{_held(card)}",
        f"## Paper, released code, and ours\n\n{_prose(card.notes) or 'Nothing to tell.'}",
    ]
    return "\n\n".join(parts) + "\n"


def table() -> str:
    """The table of all mechanisms."""
    rows = ["| name | mechanism | family | kind | axes | order | looks | cost | largest difference |", "|---" * 9 + "|"]
    for name, card in cards().items():
        found = [one.difference for one in parity() if one.mechanism == name]
        cells = [
            f"[`{name}`]({name}.md)",
            f"{_cell(card.title)}, {card.year}",
            card.family,
            card.kind,
            _axes(card),
            "matters" if card.ordered else "–",
            ", ".join(card.patterns),
            f"`{card.cost}`",
            f"{max(found):.0e}, {len(found)} cases" if len(found) > 1 else f"{found[0]:.0e}" if found else "–",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _facts(card: Card) -> Iterable[str]:
    rank = 2 if 2 in card.ranks else max(card.ranks)
    number = card.cost_of(N=TOKENS, C=CHANNELS, rank=rank) / 1e6
    yield "| | |\n|---|---|"
    yield f"| kind | {_KINDS[card.kind]} |"
    yield f"| family | {card.family} |"
    yield f"| grid axes | {_axes(card)} |"
    order = "matters" if card.ordered else "does not matter: permuting tokens permutes the output"
    yield f"| order of tokens | {order} |"
    yield f"| looks | {'; '.join(_PATTERNS[one] for one in card.patterns)} ({', '.join(card.patterns)}) |"
    yield f"| multiplications | `{card.cost}` |"
    yield f"| … {TOKENS} tokens, {CHANNELS} channels, {rank} axes | {number:,.0f} million |"
    power = card.growth(rank, C=CHANNELS)
    yield f"| growth | with the number of tokens to the power of {power:.2f}, from 100,000 to a million |"
    if card.alternation:
        turns = ", then ".join(", ".join(f"`{key}={one}`" for key, one in layer.items()) for layer in card.alternation)
        yield f"| layers of a stack | {turns}, and again |"
    if card.selects:
        yield "| hard choices | yes: in lower precision they may fall otherwise |"
    if card.stops_gradient:
        yield "| gradient | stopped somewhere on purpose |"
    if card.source is None:
        yield "| published code | none that it could be held against |"
    else:
        place = f"https://github.com/{card.source.repository}/tree/{card.source.commit}"
        licence = (
            "no licence: for understanding and testing only" if card.source.licence == "none" else card.source.licence
        )
        yield f"| published code | [{card.source.repository}@{card.source.commit}]({place}) ({licence}) |"


def _use(card: Card) -> str:
    rank = 2 if 2 in card.ranks else max(card.ranks)
    kind = "" if card.kind in ("mixer", "gate") else f', kind="{card.kind}"'
    given = "".join(f", {key}={value!r}" for key, value in card.small.items()).replace("'", '"')
    lines = ["```python", "from shared_attention import build", ""]
    lines.append(f'mixer = build("{card.name}", 64, rank={rank}{kind}{given})')
    calls = {
        "pool": "pooled = mixer(x, mask=mask)  # (B, *S, 64) to (B, K, 64)",
        "pair": "x, y = mixer(x, y, x_mask=x_mask, y_mask=y_mask)",
        "reducer": "tokens, sizes, source = mixer(x, mask=mask)  # (B, K, E), (B, K), (B, N)",
    }
    lines.append(calls.get(card.kind, "y = mixer(x, mask=mask)  # (B, *S, 64) to (B, *S, 64)"))
    if card.kind in ("mixer", "gate") and card.crosses:
        lines.append("y = mixer(x, context, context_mask=seen)  # context (B, *T, 64)")
    lines.append("```")
    text = "\n".join(lines)
    if card.kind in ("mixer", "gate") and "self" in card.patterns and not card.ranks.isdisjoint({2, 3}):
        text += f"\n\nIn a segmentation workflow: `pulvinar run medical/phantom model.attention.name={card.name}`."
    return text


def _arguments(card: Card) -> str:
    if not card.arguments:
        return "None besides channels and `rank`."
    rows = ["| argument | allowed | default | meaning |", "|---|---|---|---|"]
    for name, one in card.arguments.items():
        rows.append(f"| `{name}` | {_cell(one.spelled)} | `{one.default}` | {_cell(_prose(one.description))} |")
    return "\n".join(rows)


def _figure(card: Card) -> str:
    if 2 not in card.ranks:
        return "No figure: it serves no grid of two axes."
    given = ", ".join(f"`{key}={value}`" for key, value in card.small.items()) or "default arguments"
    what = {
        "pair": "each token of the first set, by those of the first and of the second set",
        "pool": "the first summaries",
        "reducer": "three tokens of the smaller grid",
    }.get(card.kind, "three tokens, framed")
    return (
        f"![Influence of each token on the output](figures/{card.name}.png)\n\n"
        f"Drawn from the mechanism itself ({given}, 16 channels, random weights, one random input of 12 × 12 tokens): "
        f"how much the output of {what}, changes with each token of the input, as a part of the largest change (the "
        "size of the derivative, over all channels). White is no influence at all. "
        f"Numbers: [figures/{card.name}.csv](figures/{card.name}.csv)."
    )


def _held(card: Card) -> str:
    found = [one for one in parity() if one.mechanism == card.name]
    if not card.fixtures:
        return "There are no reference outputs of published code for it; it is held against its oracle and properties."
    if not found:
        return f"Not measured yet. References: {', '.join(f'`{one}`' for one in card.fixtures)}."
    rows = ["| reference | largest difference | allowed, absolute and relative |", "|---|---|---|"]
    rows += [f"| `{one.case}` | {one.difference:.1e} | {one.tolerance:.0e} |" for one in found]
    command = f"Measured in float32 on a CPU with `pulvinar attention verify {card.name}`."
    return "\n".join([*rows, "", command])


def _summary(card: Card) -> str:
    doc = card.mechanism.__doc__ if card.mechanism is not None else ""
    return _prose((doc or "").split("\n\n")[0])


def _axes(card: Card) -> str:
    return ", ".join(map(str, sorted(card.ranks)))


def _prose(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _cited(paper: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)
