"""What the benchmarks share: options, spreads, tables, the environment, and the file that results are written to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["environment", "parser", "print_table", "save", "spread", "told"]

RESULTS = Path(__file__).resolve().parent / "results"


def parser(description: str, *, turns: int) -> argparse.ArgumentParser:
    """Options that every benchmark has; its docstring is the help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--turns", type=int, default=turns, help="how often each contestant runs")
    made.add_argument("--quick", action="store_true", help="a few seconds on made-up scans, to see that it runs")
    made.add_argument("--json", type=Path, help="file to write the results to; default one in benchmarks/results")
    return made


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and range."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return {
        "median": statistics.median(values),
        "lower quartile": low,
        "upper quartile": high,
        "least": min(values),
        "most": max(values),
    }


def told(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Median and middle half, for people."""
    got = spread(values)
    return (
        f"{got['median']:.{digits}f}{unit} ({got['lower quartile']:.{digits}f} to {got['upper quartile']:.{digits}f})"
    )


def environment() -> dict[str, Any]:
    """The command, the machine, the versions, and how busy the machine is."""
    import torch

    command = [Path(sys.argv[0]).name if sys.argv[0].endswith(".py") else sys.argv[0], *sys.argv[1:]]
    return {
        "command": " ".join(["python", "benchmarks/" + command[0], *command[1:]]),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("pulvinar", "torch", "monai", "nibabel", "numpy")},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        "load before": [round(value, 1) for value in os.getloadavg()],
    }


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows under their head, in columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def save(given: argparse.Namespace, name: str, about: Mapping[str, Any], results: Any) -> None:
    """Writes the results with their environment to the file that was asked for, or to one of this name, and says so."""
    from pipelines.runs import write_atomically

    path: Path = given.json or RESULTS / f"{name}{'-quick' if given.quick else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    load = [round(value, 1) for value in os.getloadavg()]
    content = {"environment": {**about, "load after": load}, "results": results}
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    print(f"Results: {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
