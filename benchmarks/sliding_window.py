"""Sliding-window inference beside MONAI's, with the same network, scan and windows, in turns.

Both get a preprocessed scan and give labels on its grid: windows of one size, overlap and Gaussian weights, the same
number of them at once, the largest logit. The sides take turns in one process, and who begins changes. Two times:

- `wall`: what a user waits; other work on the machine sways it.
- `processor`: what the work costs, over all threads.

Networks: `usual` has the channels of the shipped workflows, `blending` costs next to nothing, so that what is left is
cutting, blending and deciding.

    python benchmarks/sliding_window.py --network usual --classes 3
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from material import description, make_scan, real_scans
from measure import environment, parser, print_table, save, spread, told
from plain_monai import segment
from torch import Tensor

from domains.medical.segmentation.sliding import segment_volume
from domains.medical.segmentation.task import SegmentationTask

CHANNELS = {"usual": (16, 32, 64, 128), "blending": (2, 2)}
MONAI, OURS = "MONAI", "pulvinar"


def prepared(scan: Path, described: dict[str, Any]) -> Tensor:
    """The scan as the network sees it, `(1, *S)`."""
    predictor = SegmentationTask.from_description(described).predictor(_network(described), device=torch.device("cpu"))
    return predictor.read(predictor.discover([scan])[0]).prepared.image


def sides(
    network: torch.nn.Module, image: Tensor, *, patch: Sequence[int], classes: int, precision: torch.dtype
) -> dict[str, Callable[[], Tensor]]:
    """Both ways from an image to its labels."""
    common: dict[str, Any] = {"patch": tuple(patch), "overlap": 0.5, "batch_size": 2, "precision": precision}

    def ours() -> Tensor:
        labels = segment_volume(network, image, classes=classes, **common)
        assert isinstance(labels, Tensor)
        return labels

    return {MONAI: lambda: segment(network, image[None], **common)[0].argmax(0).to(torch.uint8), OURS: ours}


def measured(side: Callable[[], Tensor]) -> tuple[dict[str, float], Tensor]:
    """Seconds and labels of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    labels = side()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}, labels


def compare(contestants: dict[str, Callable[[], Tensor]], turns: int) -> dict[str, Any]:
    """Times of both, how many times as fast ours is, and the voxels whose labels differ."""
    for side in contestants.values():
        side()
    times: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    labels: dict[str, Tensor] = {}
    for turn in range(turns):
        for name in (MONAI, OURS) if turn % 2 == 0 else (OURS, MONAI):
            seconds, labels[name] = measured(contestants[name])
            times[name].append(seconds)
    result: dict[str, Any] = {
        "seconds": times,
        "voxels": labels[OURS].numel(),
        "voxels that differ": int((labels[OURS] != labels[MONAI]).sum()),
    }
    for clock in ("wall", "processor"):
        columns = {name: spread([turn[clock] for turn in taken]) for name, taken in times.items()}
        result[clock] = {**columns, "speedup": columns[MONAI]["median"] / columns[OURS]["median"]}
    return result


def _network(described: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    return SegmentationTask.from_description(described).build_network().eval()


def main() -> None:
    options = parser(__doc__, turns=5)
    options.add_argument("--network", choices=sorted(CHANNELS), default="usual")
    options.add_argument("--classes", type=int, default=3)
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options.add_argument("--patch", type=int, nargs=3, default=(40, 56, 40))
    options.add_argument(
        "--scans", type=int, default=3, help="how many scans, each of another size, the smallest first"
    )
    given = options.parse_args()
    about = environment()
    channels, patch, turns = CHANNELS[given.network], tuple(given.patch), given.turns
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        scans = [] if given.quick else real_scans(small=1)[-given.scans :]
        if given.quick:
            channels, patch, turns = (4, 8), (16, 16, 16), 1
            scans = [make_scan(Path(temporary) / "scan.nii.gz", (24, 32, 20))]
        elif not scans:
            shapes = [(117, 91, 20), (79, 95, 79), (35, 51, 35)][-given.scans :]
            scans = [make_scan(Path(temporary) / f"{n}.nii.gz", shape, seed=n) for n, shape in enumerate(shapes)]
        described = description(classes=given.classes, patch=patch, channels=channels, precision=given.precision)
        network = _network(described)
        precision = torch.float32 if given.precision == "fp32" else torch.bfloat16
        results: dict[str, Any] = {}
        for scan in scans:
            image = prepared(scan, described)
            contestants = sides(network, image, patch=patch, classes=given.classes, precision=precision)
            shape = "x".join(map(str, image.shape[1:]))
            results[shape] = compare(contestants, turns)
    print(
        f"{given.network} network, {given.classes} classes, {given.precision}, windows of {'x'.join(map(str, patch))}, "
        f"overlap 0.5, 2 at once, {about['threads']} thread(s), {turns} turn(s)"
    )
    rows = [
        [
            shape,
            clock,
            *(told([turn[clock] for turn in result["seconds"][name]], " s") for name in (MONAI, OURS)),
            f"{result[clock]['speedup']:.2f}",
            f"{result['voxels that differ']} of {result['voxels']}",
        ]
        for shape, result in results.items()
        for clock in ("wall", "processor")
    ]
    print_table(["scan", "time", MONAI, OURS, "times as fast", "voxels that differ"], rows)
    save(given, f"sliding_window-{given.network}-{given.classes}-{given.precision}", about, results)


if __name__ == "__main__":
    main()
