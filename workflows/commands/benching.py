"""`attention bench`: time and memory of the mechanisms over the number of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.errors import ConfigurationError, EnvironmentProblem, ExitCode
from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared_attention.bench import Growth, Measurement

__all__ = ["bench_attention"]

_QUICK = (196, 784)
_SIZES = {True: (3136, 12544, 50176), False: (3136, 7056, 12544)}
"""Of mechanisms of linear cost, and of the others: squares that usual windows divide, where what does not grow is
little."""
_YARDSTICK = "full"


def bench_attention(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Mechanisms; all of them by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and plots.")] = Path("attention-bench"),
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Numbers of tokens of a sample; 3136,12544,50176 by default, up to 12544 where cost grows faster.",
        ),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of a token.")] = 64,
    axes: Annotated[int, typer.Option(min=1, max=3, help="Axes of the grid that the tokens lie on.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 1,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What is measured.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a CPU measurement.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="How long a pass is repeated at least; 0 for one pass.")] = 0.5,
    linear: Annotated[
        bool, typer.Option("--linear", help="Only mechanisms whose cost grows in proportion to the tokens.")
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="What a CPU measurement may take; half of what is free by default."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one measurement may take.")] = 300,
    quick: Annotated[bool, typer.Option("--quick", help="Two small sizes and one pass each, to see that it runs.")] = (
        False
    ),
    json: JsonOption = False,
) -> int:
    """Measure time and memory of mechanisms over the number of tokens, each in a process of its own."""
    from shared_attention.bench import Request, grid_of, growth, is_linear, measure_all

    given = None if sizes is None else _sizes(sizes)
    requests = [
        Request(
            name,
            grid_of(size, axes),
            channels,
            batch=batch,
            device=_device(device),
            threads=threads,
            seconds=0 if quick else seconds,
        )
        for name in _chosen(names, axes, linear)
        for size in given or (_QUICK if quick else _SIZES[is_linear(name, axes=axes)])
    ]
    limit = _free_memory() / 2 if memory is None else memory * 2**30
    measurements = []
    for number, one in enumerate(measure_all(requests, memory=limit, timeout=timeout), start=1):
        measurements.append(one)
        say(f"{number} of {len(requests)}  {_told(one)}")
    grown = growth(measurements)
    files = _write(out, measurements, grown)
    if json:
        print_json(
            {"measurements": [one.as_dict() for one in measurements], "growth": [one.as_dict() for one in grown]}
        )
    else:
        _print(measurements, grown)
        next_steps(files, ["pulvinar attention show NAME"])
    return ExitCode.SOME_FAILED if any(one.outcome == "failed" for one in measurements) else ExitCode.OK


def _chosen(names: Sequence[str] | None, axes: int, linear: bool) -> list[str]:
    """Names of what is measured, the yardstick first."""
    from shared_attention import card, cards
    from shared_attention.bench import is_linear

    try:
        wanted = [card(name).name for name in names] if names else list(cards(rank=axes))
    except ValueError as error:
        raise ConfigurationError(str(error), hint="pulvinar attention list") from None
    for name in wanted:
        if axes not in card(name).ranks:
            served = ", ".join(map(str, sorted(card(name).ranks)))
            raise ConfigurationError(f"{name} serves grids of {served} axes, not {axes}")
    if linear:
        wanted = [name for name in wanted if is_linear(name, axes=axes)]
        if not wanted:
            raise ConfigurationError("the cost of none of them grows in proportion to the tokens")
        return wanted
    return list(dict.fromkeys([_YARDSTICK, *wanted]))


def _sizes(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ConfigurationError(f"--sizes {text!r} is not a list of numbers of tokens", hint="--sizes 1024,4096,16384")
    return found


def _device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise EnvironmentProblem("there is no CUDA device here", hint="--device cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _told(one: Measurement) -> str:
    at = f"{one.name}, {one.tokens:,} tokens:"
    if one.outcome != "ok":
        return f"{at} {one.outcome} ({one.message})"
    return (
        f"{at} forward {1e3 * one.forward_seconds:.4g} ms, with backward {1e3 * one.training_seconds:.4g} ms, "
        f"peak {one.training_bytes / 2**20:.4g} MiB"
    )


def _print(measurements: Sequence[Measurement], grown: Sequence[Growth]) -> None:
    largest = {one.name: one for one in measurements if one.outcome == "ok"}
    full = {one.tokens: one.training_seconds for one in measurements if one.name == _YARDSTICK}
    slopes = {one.name: one for one in grown}
    rows: list[tuple[Any, ...]] = []
    nothing = float("nan")
    for name, one in largest.items():
        growth = slopes.get(name)
        rows.append(
            (
                name,
                one.tokens,
                1e3 * one.forward_seconds,
                1e3 * one.training_seconds,
                one.training_bytes / 2**20,
                one.training_seconds / full.get(one.tokens, nothing),
                *((growth.expected, growth.operations, growth.forward, growth.memory) if growth else (nothing,) * 4),
            )
        )
    print_table(
        (
            "name", "tokens", "forward ms", "+ backward ms", "peak MiB", f"time of {_YARDSTICK}",
            "slope of formula", "of operations", "of time", "of memory",
        ),
        rows,
        title="The largest size of each mechanism, and growth over all sizes",
    )  # fmt: skip
    for name in dict.fromkeys(one.name for one in measurements if one.outcome != "ok"):
        worst = next(one for one in measurements if one.name == name and one.outcome != "ok")
        say(f"{name}: {worst.outcome} with {worst.tokens:,} tokens ({worst.message})")


def _write(out: Path, measurements: Sequence[Measurement], grown: Sequence[Growth]) -> dict[str, object]:
    from pipelines.runs import write_atomically
    from workflows.benchplot import plot, table

    files: dict[str, object] = {"measurements": out / "measurements.csv"}
    write_atomically(out / "measurements.csv", table([one.as_dict() for one in measurements]))
    if grown:
        files |= {"growth": out / "growth.csv", "plot": out / "growth.png"}
        write_atomically(out / "growth.csv", table([one.as_dict() for one in grown]))
        write_atomically(out / "growth.png", plot(measurements, yardstick=_YARDSTICK))
    return files
