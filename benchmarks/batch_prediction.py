"""A whole batch by `pulvinar predict` beside the plain MONAI loop (see plain_monai.py), two commands that take turns.

Both load the same model folder and predict the same scans with the same precision and number of threads. Three times
are compared, since a short batch is mostly starting up, and other work on the machine sways what a clock shows:

- `command`: from nothing to the last result, with interpreter, imports and the model.
- `work`: from the first scan to the last result. Ours goes by its ledger and includes preview, volumes, checksums and
  durable writes, which the loop does not do.
- `processor`: what the command cost, over all its processes and threads.

Settings: `own` keeps each scan's own grid (3 classes), `resampled` goes to 3 mm and back (15 classes).

    python benchmarks/batch_prediction.py --setting own --precision fp32
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from material import description, make_model, real_scans, synthetic_scans
from measure import environment, parser, save, spread, told

HERE = Path(__file__).resolve().parent
SETTINGS: dict[str, dict[str, Any]] = {
    "own": {"classes": 3, "patch": (40, 56, 40)},
    "resampled": {"classes": 15, "patch": (40, 56, 40), "spacing": (3.0, 3.0, 3.0)},
}
QUICK = {"classes": 3, "patch": (16, 16, 16), "channels": (4, 8)}


def plain_loop(model: Path, scans: Sequence[Path], out: Path, precision: str, back: str) -> dict[str, float]:
    """The MONAI loop as a command of its own."""
    command = [HERE / "plain_monai.py", model, out, *scans, "--precision", precision, "--back", back]
    seconds, printed = _timed(command)
    return {**seconds, "work": sum(json.loads(printed.splitlines()[-1]).values())}


def ours(model: Path, scans: Sequence[Path], out: Path) -> dict[str, float]:
    """`pulvinar predict`."""
    seconds, _ = _timed(["-m", "workflows.main", "predict", model, *scans, "--out", out, "--device", "cpu"])
    with (out / "ledger.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    bad = [f"{row['item_id']}: {row['reason']}" for row in rows if row["outcome"] != "ok"]
    if bad:
        raise SystemExit(f"not every scan was predicted: {bad}")
    began = min(datetime.fromisoformat(row["started"]) for row in rows)
    ended = max(datetime.fromisoformat(row["finished"]) for row in rows)
    return {**seconds, "work": (ended - began).total_seconds()}


def agreement(scans: Sequence[Path], plain: Path, pulvinar: Path) -> dict[str, float]:
    """How the labels of both compare, over all scans."""
    differing = voxels = 0
    dice: list[float] = []
    for scan in scans:
        name = scan.name.removesuffix(".nii.gz")
        theirs, own = _labels(plain / scan.name), _labels(pulvinar / name / scan.name)
        differing += int(np.count_nonzero(theirs != own))
        voxels += own.size
        for value in np.union1d(np.unique(theirs), np.unique(own)):
            both = np.count_nonzero((theirs == value) & (own == value))
            dice.append(2 * both / (np.count_nonzero(theirs == value) + np.count_nonzero(own == value)))
    return {"share of voxels that differ": differing / voxels, "mean Dice": float(np.mean(dice))}


def _labels(path: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj)


def _timed(arguments: Sequence[Any]) -> tuple[dict[str, float], str]:
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
    before, began = _children_seconds(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environ, capture_output=True, text=True, check=False
    )
    seconds = {"command": time.perf_counter() - began, "processor": _children_seconds() - before}
    if done.returncode:
        raise SystemExit(f"{arguments[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def _children_seconds() -> float:
    """Processor time of the processes that ended, with all that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = parser(__doc__, turns=3)
    options.add_argument("--setting", choices=sorted(SETTINGS), default="own")
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options.add_argument("--back", choices=("probabilities", "labels"), default="probabilities")
    options.add_argument("--scans", type=int, default=16, help="how many scans, the largest first")
    given = options.parse_args()
    about = environment()
    turns = 1 if given.quick else given.turns
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        folder = Path(temporary)
        scans = [] if given.quick else real_scans()[: given.scans]
        if not scans:
            shapes = [(24, 32, 20), (32, 20, 28)] if given.quick else _shapes(given.scans)
            scans = synthetic_scans(folder / "scans", shapes)
        chosen = QUICK if given.quick else SETTINGS[given.setting]
        model = make_model(folder / "model", description(precision=given.precision, **chosen))
        times: dict[str, list[dict[str, float]]] = {"plain MONAI loop": [], "pulvinar predict": []}
        for turn in range(turns):
            plain, pulvinar = folder / f"plain{turn}", folder / f"pulvinar{turn}"
            for name in sorted(times, reverse=turn % 2 == 1):
                times[name].append(
                    plain_loop(model, scans, plain, given.precision, given.back)
                    if name == "plain MONAI loop"
                    else ours(model, scans, pulvinar)
                )
        same = agreement(scans, plain, pulvinar)
    print(f"{len(scans)} scans, {given.setting}, {given.precision}, {about['threads']} thread(s), {turns} turn(s)")
    results: dict[str, Any] = {"scans": len(scans), "times": times, "labels": same, "speedup": {}}
    for part in ("command", "work", "processor"):
        seconds = {name: [turn[part] for turn in turns] for name, turns in times.items()}
        gain = np.divide(seconds["plain MONAI loop"], seconds["pulvinar predict"]).tolist()
        results["speedup"][part] = spread(gain)
        shown = ", ".join(f"{name} {told(values, ' s', 1)}" for name, values in seconds.items())
        print(f"{part}: {shown}; {told(gain)} times as fast")
    print(f"labels: {same['share of voxels that differ']:.1e} of the voxels differ, mean Dice {same['mean Dice']:.4f}")
    save(given, f"batch_prediction-{given.setting}-{given.precision}", about, results)


def _shapes(count: int) -> list[tuple[int, int, int]]:
    large = [(122, 101, 112), (122, 101, 30), (117, 91, 20), (79, 95, 79)]
    return (large + [(34 + number % 5, 48 + number % 7, 33 + number % 4) for number in range(count)])[:count]


if __name__ == "__main__":
    main()
