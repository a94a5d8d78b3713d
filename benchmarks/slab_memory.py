"""Peak memory of segmenting a large volume, beside MONAI's, each side in a process of its own.

Both get the same volume, network and windows (size, overlap, Gaussian weights, two at once, fp32) and give labels of
one byte on its grid. The network is tiny, so that what counts is what is held around it. Two parts:

- `window`: from the preprocessed image in memory to labels in memory, one convolution of 3x3x3 as network. MONAI:
  `sliding_window_inference`, `argmax`.
- `scan`: from file to file, a U-Net of two channels as network, as `benchmarks/plain_monai.py` does it and as a worker
  of `pulvinar predict` does it (which also writes a preview and volumes).

Peak: the process' highest resident memory less what it held before it began, when libraries, network and, in the part
`window`, the image were loaded and one window had gone through the network.

    python benchmarks/slab_memory.py --part window
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, parser, print_table, save

HERE = Path(__file__).resolve().parent
SHAPE, PATCH, CLASSES = (512, 512, 300), (96, 96, 96), 15
MONAI, OURS = "MONAI", "pulvinar"


def resident(name: str) -> float:
    """GB by a line of /proc/self/status: `VmRSS` is held now, `VmHWM` the most so far."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit(f"no {name} in /proc/self/status; this benchmark needs Linux")


def from_image(side: str, model: Path, scan: Path, given: argparse.Namespace) -> Callable[[], np.ndarray]:
    """Image in memory to labels in memory."""
    import torch

    task, unused = _loaded(model)
    patch, classes = given.patch, given.classes
    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, classes, 3, padding=1).eval()
    image = task.predictor(unused, device=torch.device("cpu")).read(_item(scan)).prepared.image
    with torch.inference_mode():
        network(torch.zeros(2, 1, *patch))
    options: dict[str, Any] = {"patch": patch, "overlap": given.overlap, "batch_size": 2}

    if side == MONAI:
        from plain_monai import segment

        return lambda: segment(network, image[None], **options)[0].argmax(0).to(torch.uint8).numpy()

    from domains.medical.segmentation.sliding import segment_volume

    def ours() -> np.ndarray:
        labels: Any = segment_volume(network, image, classes=classes, **options)
        return labels.numpy()

    return ours


def from_file(side: str, model: Path, scan: Path, given: argparse.Namespace, out: Path) -> Callable[[], np.ndarray]:
    """File to file; the labels are read again."""
    import nibabel
    import torch

    task, network = _loaded(model)
    with torch.inference_mode():
        network(torch.zeros(2, 1, *given.patch))
    if side == MONAI:
        from plain_monai import PlainMonai

        loop = PlainMonai(network, patch=given.patch, overlap=given.overlap)

        def work() -> Any:
            return loop.predict([scan], out)
    else:
        predictor, item = task.predictor(network, device=torch.device("cpu")), _item(scan)

        def work() -> Any:
            return predictor.write(item, predictor.infer(predictor.read(item)), out)

    def predict() -> np.ndarray:
        work()
        (written,) = out.glob("*.nii*")
        return np.asarray(nibabel.load(written).dataobj)

    return predict


def child(given: argparse.Namespace) -> None:
    """One side: prints its numbers as JSON and saves its labels."""
    model, scan, labels = given.child
    with tempfile.TemporaryDirectory(prefix="benchmark-") as out:
        run = (
            from_image(given.side, model, scan, given)
            if given.part == "window"
            else from_file(given.side, model, scan, given, Path(out))
        )
        baseline, before = resident("VmRSS"), resident("VmHWM")
        began = time.perf_counter()
        result = run()
        seconds, most = time.perf_counter() - began, resident("VmHWM")
        np.save(labels, result)
    # Loading may have reached higher than the work itself; then its peak cannot be told.
    numbers = {"baseline": baseline, "peak": most - baseline, "seconds": seconds, "told": most > before}
    print(json.dumps(numbers))


def run_side(side: str, given: argparse.Namespace, paths: Sequence[Path]) -> dict[str, float]:
    """A side in a process of its own."""
    command = [sys.executable, HERE / "slab_memory.py", "--part", given.part, "--side", side, "--child", *paths]
    command += ["--classes", given.classes, "--overlap", given.overlap, "--patch", *given.patch]
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([str(word) for word in command], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _loaded(model: Path) -> tuple[Any, Any]:
    from pipelines.modelfolder import load_model
    from workflows.tasks import register_tasks

    register_tasks()
    loaded = load_model(model, device="cpu")
    return loaded.task, loaded.network


def _item(scan: Path) -> Any:
    from domains.medical.scans.discovery import discover

    return discover([scan])[0]


def differing(one: Path, other: Path) -> tuple[int, int]:
    """Voxels that differ, and all."""
    first, second = np.load(one, mmap_mode="r"), np.load(other, mmap_mode="r")
    if first.shape != second.shape:
        raise SystemExit(f"labels of shape {first.shape} and {second.shape}")
    return sum(int(np.count_nonzero(a != b)) for a, b in zip(first, second, strict=True)), first.size


def main() -> None:
    options = parser(__doc__, turns=1)
    options.add_argument("--part", choices=("window", "scan"), default="window")
    options.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    options.add_argument("--patch", type=int, nargs=3, default=PATCH)
    options.add_argument("--classes", type=int, default=CLASSES)
    options.add_argument("--overlap", type=float, default=0.25)
    options.add_argument("--together", action="store_true", help="both sides at once: sways seconds, not memory")
    options.add_argument("--side", choices=(MONAI, OURS), help=argparse.SUPPRESS)
    options.add_argument("--child", type=Path, nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    given.patch = tuple(given.patch)
    if given.child:
        child(given)
        return
    from material import description, make_model, make_scan

    if given.quick:
        given.shape, given.patch, given.classes, given.turns = (96, 48, 48), (16, 16, 16), 15, 1
    about = environment()
    numbers: dict[str, list[dict[str, float]]] = {MONAI: [], OURS: []}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        folder = Path(temporary)
        described = description(classes=given.classes, patch=given.patch, channels=(2, 2), overlap=given.overlap)
        model = make_model(folder / "model", described)
        scan = make_scan(folder / "scan.nii", given.shape)
        for _ in range(given.turns):
            with ThreadPoolExecutor(2 if given.together else 1) as pool:
                runs = [pool.submit(run_side, side, given, [model, scan, folder / f"{side}.npy"]) for side in numbers]
            for taken, run in zip(numbers.values(), runs, strict=True):
                taken.append(run.result())
        different, voxels = differing(folder / f"{MONAI}.npy", folder / f"{OURS}.npy")
    middle = {
        side: {key: float(np.median([turn[key] for turn in taken])) for key in ("baseline", "peak", "seconds")}
        for side, taken in numbers.items()
    }
    share = middle[OURS]["peak"] / middle[MONAI]["peak"]
    size, patch = ("x".join(map(str, axes)) for axes in (given.shape, given.patch))
    print(f"{size}, {given.classes} classes, windows of {patch}, overlap {given.overlap}, part {given.part}")
    print_table(
        ["", "peak", "held before", "seconds"],
        [[s, f"{m['peak']:.2f} GB", f"{m['baseline']:.2f} GB", f"{m['seconds']:.0f}"] for s, m in middle.items()],
    )
    print(f"peak of pulvinar: {100 * share:.0f} % of MONAI's; {different} of {voxels} voxels differ")
    if not all(turn["told"] for taken in numbers.values() for turn in taken):
        print("The work stayed below the peak of loading, so these peaks are upper bounds; take a larger --shape.")
    results = {"turns": numbers, "share": share, "voxels": voxels, "voxels that differ": different}
    save(given, f"slab_memory-{given.part}", about, results)


if __name__ == "__main__":
    main()
