"""Poses of the persons of a frame: all in one batch against one by one.

The same weights, pictures and boxes; all sides cut, normalise, run the network, bring joints back to the picture, and
give the same joints. One by one runs twice: through the product, with the network as it is served (norms merged into
convolutions), and as the plain loop that one writes for a person at a time, with the network as it was trained. All
sides keep freed memory, as a worker of `pulvinar predict` does. Sides take turns, frame after frame.

    python benchmarks/pose_inference.py
    python benchmarks/pose_inference.py --persons 4 --frames 3 --size 256 192
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from measure import environment, parser, print_table, save, told


def options() -> argparse.Namespace:
    made = parser(__doc__ or "", turns=15)
    made.add_argument("--persons", type=int, default=4, help="persons of a frame")
    made.add_argument("--frames", type=int, default=1, help="frames of a clip")
    made.add_argument("--size", type=int, nargs=2, default=(256, 192), help="height and width of a cut")
    made.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of PyTorch")
    made.add_argument("--device", default="cpu")
    return made.parse_args()


def network(given: argparse.Namespace) -> Any:
    """DSTA on EfficientNet-lite0 as it was trained; with random weights, which do not matter for time."""
    import torch

    from domains.video.pose.building import build_network
    from domains.video.pose.settings import ModelSettings
    from domains.video.skeletons.joints import joint_set

    torch.manual_seed(0)
    made = build_network(ModelSettings(weights="none"), joint_set("coco17"), frames=given.frames)
    return made.to(given.device).to(memory_format=torch.channels_last).eval()


def estimator(given: argparse.Namespace) -> Any:
    """The same network as the product serves it."""
    import torch

    from domains.video.pose.estimating import PoseEstimator
    from domains.video.pose.network import for_serving
    from domains.video.pose.settings import InputSettings
    from domains.video.skeletons.joints import joint_set

    return PoseEstimator(
        for_serving(network(given)),
        joint_set("coco17"),
        InputSettings(size=tuple(given.size), frames=given.frames),
        device=torch.device(given.device),
        mirror=False,
        batch=max(32, given.persons),
    )


def clips(given: argparse.Namespace) -> list[Any]:
    """A frame of each turn, 480 × 640, with so many persons."""
    import numpy as np

    from domains.video.pose.boxes import FoundBox
    from domains.video.pose.estimating import FrameClip

    rng = np.random.default_rng(0)
    made = []
    for _ in range(given.turns + 1):
        pictures = [rng.integers(0, 255, (480, 640, 3), dtype=np.uint8) for _ in range(given.frames)]
        corners, sides = rng.uniform(0, 300, (given.persons, 2)), rng.uniform(80, 180, (given.persons, 2))
        boxes = [
            FoundBox((*map(float, corner), *map(float, side))) for corner, side in zip(corners, sides, strict=True)
        ]
        made.append(FrameClip(pictures, boxes))
    return made


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds of the clock and of the processor, and what came out."""
    wall, processor = time.perf_counter(), time.process_time()
    out = work()
    return time.perf_counter() - wall, time.process_time() - processor, out


def one_by_one(estimate: Any, clip: Any) -> Any:
    """The joints of a frame's persons, each for itself."""
    import numpy as np

    from domains.video.pose.estimating import FrameClip

    return np.concatenate([estimate([FrameClip(clip.pictures, [box])])[0].points for box in clip.boxes])


def plain_loop(network: Any, size: tuple[int, int], device: str) -> Callable[[Any], Any]:
    """One person after the other: cut, normalise, look, bring back; nothing of the product's way of serving."""
    import numpy as np
    import torch

    from domains.video.pose.crops import Crop
    from domains.video.pose.samples import normalise

    @torch.inference_mode()
    def look(clip: Any) -> Any:
        found = []
        for box in clip.boxes:
            crop = Crop.around(box.box, size, margin=1.25)
            frames = torch.from_numpy(normalise([crop.cut(picture) for picture in clip.pictures]))[None]
            shares = network(frames.to(device)).coordinates[0]
            found.append(crop.to_picture(shares.double().cpu().numpy()))
        return np.stack(found)

    return look


def contest(sides: dict[str, Callable[[Any], Any]], frames: list[Any]) -> tuple[dict[str, list[Any]], float]:
    """Side → seconds of the clock and of the processor for each frame, and how far their joints lie apart in pixels."""
    import numpy as np

    taken: dict[str, list[Any]] = {name: [] for name in sides}
    apart = 0.0
    for turn, clip in enumerate(frames):
        seen = {}
        for name in sorted(sides, reverse=bool(turn % 2)):
            wall, processor, seen[name] = timed(lambda side=sides[name], clip=clip: side(clip))
            if turn:  # the first frame warms up
                taken[name].append((wall, processor))
        apart = max(apart, *(float(np.abs(seen["in one batch"] - other).max()) for other in seen.values()))
    return taken, apart


def main() -> None:
    import torch

    from pipelines.allocation import keep_freed_memory

    given = options()
    if given.quick:
        given.size, given.turns = (64, 64), 2
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    about = environment()
    served, trained = estimator(given), network(given)
    sides = {
        "in one batch": lambda clip: served([clip])[0].points,
        "one by one": lambda clip: one_by_one(served, clip),
        "one by one, plain": plain_loop(trained, tuple(given.size), given.device),
    }
    taken, apart = contest(sides, clips(given))
    rows, ratios = [], {}
    for name, times in taken.items():
        ratios[name] = [
            [slow[at] / fast[at] for slow, fast in zip(times, taken["in one batch"], strict=True)] for at in range(2)
        ]
        clock, processor = (told([1000 * one[at] for one in times], " ms", 1) for at in range(2))
        rows.append((name, clock, processor, *(told(ratio) for ratio in ratios[name])))
    print_table((f"{given.persons} persons", "clock", "processor", "times as long: clock", "processor"), rows)
    print(f"Largest difference of joints: {apart:.2g} pixels.")
    results = {
        "persons": given.persons,
        "frames": given.frames,
        "size": list(given.size),
        "seconds": {name: [list(one) for one in times] for name, times in taken.items()},
        "ratio to one batch, clock and processor": ratios,
        "largest difference in pixels": apart,
    }
    save(given, "pose_inference", about, results)


if __name__ == "__main__":
    main()
