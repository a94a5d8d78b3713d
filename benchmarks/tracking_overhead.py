"""What tracking costs a run: time of one logging call, with a store that answers and with a server that hangs.

Four metrics go in each call, as training logs them every `train.log_every` steps; here the call is held against one
step of a small network, so as if every step were logged: two windows of 40x56x40, forward and backward.

    python benchmarks/tracking_overhead.py
"""

from __future__ import annotations

import logging
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from material import description
from measure import environment, parser, print_table, save

from domains.medical.segmentation.task import SegmentationTask
from pipelines.runs import RunFolder
from pipelines.tracking import Tracker, TrackingSettings, open_tracker

QUICK_CALLS, CALLS = 50, 2_000
PATCH = (40, 56, 40)


def microseconds(call: Callable[[int], object], calls: int) -> dict[str, float]:
    """Mean, median and 99th percentile of the time of a call."""
    times = []
    for step in range(calls):
        started = time.perf_counter_ns()
        call(step)
        times.append((time.perf_counter_ns() - started) / 1000)
    times.sort()
    return {"mean": statistics.fmean(times), "median": times[calls // 2], "99 %": times[calls * 99 // 100]}


def measure(tracker: Tracker, calls: int) -> dict[str, float]:
    """Four metrics in each call, as an optimizer step would log them."""
    values = {"train/loss": 0.5, "train/dice_loss": 0.3, "train/cross_entropy": 0.2, "train/learning_rate": 1e-3}
    return microseconds(lambda step: tracker.log_metrics(values, step), calls)


def step_microseconds(steps: int) -> float:
    """Median processor time of forward and backward of a small network, one thread or many."""
    described = description(classes=3, patch=PATCH, channels=(16, 32, 64))
    network = SegmentationTask.from_description(described).build_network().train()
    images = torch.randn(2, 1, *PATCH, generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(steps + 1):
        started = time.process_time()
        outputs = network(images)
        sum(part.square().mean() for part in (outputs if isinstance(outputs, list | tuple) else [outputs])).backward()
        times.append(time.process_time() - started)
    return 1e6 * statistics.median(times[1:])


def main() -> None:
    given = parser(__doc__, turns=1).parse_args()
    about = environment()
    calls = QUICK_CALLS if given.quick else CALLS
    logging.disable(logging.WARNING)
    step = step_microseconds(1 if given.quick else 9)
    results: dict[str, Any] = {"microseconds of processor time of one training step": step}
    rows = []
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as hanging:
        output = Path(folder)
        stores = {"SQLite store": None, "server that hangs": f"http://127.0.0.1:{hanging.getsockname()[1]}"}
        for name, uri in list(stores.items())[: 1 if given.quick else None]:
            taken = []
            for turn in range(given.turns):
                run = RunFolder(output / f"{name.replace(' ', '-')}-{turn}")
                run.root.mkdir()
                started = time.perf_counter()
                tracker = open_tracker(TrackingSettings(uri=uri), run, name="overhead", output=output)
                opened = time.perf_counter() - started
                call = measure(tracker, calls)
                started = time.perf_counter()
                tracker.finish("finished")
                taken.append({"open": opened, "finish": time.perf_counter() - started, "call": call})
            results[name] = taken
            mean, tail = (statistics.median(turn["call"][key] for turn in taken) for key in ("mean", "99 %"))
            opened, finish = (statistics.median(turn[key] for turn in taken) for key in ("open", "finish"))
            share = f"{100 * mean / step:.3f} %"
            rows.append([name, f"{mean:.0f} µs", f"{tail:.0f} µs", share, f"{opened:.2f} s", f"{finish:.1f} s"])
    print(f"{calls} calls of four metrics; a training step takes {step / 1e3:.0f} ms of processor time")
    print_table(["store", "mean call", "99 % of calls", "share of a step", "to open", "to finish"], rows)
    save(given, "tracking_overhead", about, results)


if __name__ == "__main__":
    main()
