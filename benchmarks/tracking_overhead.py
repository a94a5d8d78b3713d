"""What tracking costs a run: time of one logging call, alone and while a server hangs.

python benchmarks/tracking_overhead.py
"""

from __future__ import annotations

import json
import logging
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.runs import RunFolder
from pipelines.tracking import Tracker, TrackingSettings, open_tracker

CALLS = 2_000


def microseconds(call: Callable[[int], object]) -> dict[str, float]:
    """Median, 99th percentile and largest time of a call."""
    times = []
    for step in range(CALLS):
        started = time.perf_counter_ns()
        call(step)
        times.append((time.perf_counter_ns() - started) / 1000)
    times.sort()
    return {"median": times[CALLS // 2], "99 %": times[CALLS * 99 // 100], "mean": sum(times) / CALLS}


def measure(tracker: Tracker) -> dict[str, float]:
    """Four metrics in each call, as an optimizer step would log them."""
    values = {"train/loss": 0.5, "train/dice_loss": 0.3, "train/cross_entropy": 0.2, "train/learning_rate": 1e-3}
    return microseconds(lambda step: tracker.log_metrics(values, step))


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as hanging:
        output = Path(folder)
        stores = {"SQLite store": None, "server that hangs": f"http://127.0.0.1:{hanging.getsockname()[1]}"}
        results = {}
        for name, uri in stores.items():
            run = RunFolder(output / name.replace(" ", "-"))
            run.root.mkdir()
            started = time.perf_counter()
            tracker = open_tracker(TrackingSettings(uri=uri), run, name="overhead", output=output)
            opened = time.perf_counter() - started
            calls = measure(tracker)
            started = time.perf_counter()
            tracker.finish("finished")
            results[name] = {
                "seconds to open": round(opened, 4),
                "microseconds a call": {key: round(value, 1) for key, value in calls.items()},
                "seconds to finish": round(time.perf_counter() - started, 1),
            }
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
