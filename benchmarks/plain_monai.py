"""The plain MONAI loop that ours is compared with: what a competent user writes, one case after the other.

read → channel first → RAS → spacing → intensity → sliding window → decide → back to the scan's grid → write

It gets the same network and weights, device, precision, threads, windows (size, overlap, Gaussian blending) and number
of windows at once, and what is good practice: inference mode, no autograd, plain tensors for the windows, labels of one
byte, no test-time augmentation, no picture, table or checksum beside the labels. Two ways back to the scan's grid are
common, and both are measured where scans are resampled:

- `probabilities`, as MONAI's bundles do: softmax, interpolated by `Invertd`, then the largest. It is what ours does.
- `labels`: the largest first, then `Invertd` with the nearest neighbour; faster and coarser.

Where nothing is resampled the two are the same, and the faster one is taken.

    python benchmarks/plain_monai.py MODEL OUT SCAN…
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from material import INTENSITY
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImage,
    ScaleIntensityRanged,
    Spacingd,
)
from torch import Tensor

__all__ = ["PlainMonai", "segment"]


def segment(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    patch: Sequence[int],
    overlap: float = 0.5,
    batch_size: int = 2,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Logits `(1, K, *S)` of an image `(1, C, *S)`."""

    def windows(cubes: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            # Blending in bfloat16 would change labels.
            return network(cubes).float()

    with torch.inference_mode():
        return sliding_window_inference(image, tuple(patch), batch_size, windows, overlap=overlap, mode="gaussian")


class PlainMonai:
    """The loop, with its transforms.

    Args:
        network: In evaluation mode.
        patch: Voxels of a window.
        spacing: mm to resample to; none keeps each scan's own.
        overlap: Share of a window that the next one covers too.
        batch_size: Windows at once.
        precision: float32, or bfloat16 for autocast.
        back: How labels get to the scan's grid.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        patch: Sequence[int],
        spacing: Sequence[float] | None = None,
        overlap: float = 0.5,
        batch_size: int = 2,
        precision: torch.dtype = torch.float32,
        back: Literal["probabilities", "labels"] = "probabilities",
    ) -> None:
        self._network = network
        self._options: dict[str, Any] = {
            "patch": patch,
            "overlap": overlap,
            "batch_size": batch_size,
            "precision": precision,
        }
        (low, high), mean, deviation = INTENSITY["window"], INTENSITY["mean"], INTENSITY["deviation"]
        self._before = Compose(
            [
                LoadImaged("image"),
                EnsureChannelFirstd("image"),
                Orientationd("image", axcodes="RAS"),
                *([Spacingd("image", pixdim=tuple(spacing), mode="bilinear")] if spacing is not None else []),
                ScaleIntensityRanged(
                    "image", low, high, (low - mean) / deviation, (high - mean) / deviation, clip=True
                ),
            ]
        )
        self._decide_last = spacing is not None and back == "probabilities"
        self._invert = Invertd(
            "pred", self._before, orig_keys="image", nearest_interp=not self._decide_last, to_tensor=True
        )

    def read(self, path: Path) -> dict[str, Any]:
        """A preprocessed scan."""
        return self._before({"image": str(path)})

    def infer(self, case: dict[str, Any]) -> dict[str, Any]:
        """Labels `pred` on the scan's own grid."""
        logits = segment(self._network, case["image"].as_tensor()[None], **self._options)[0]
        with torch.inference_mode():
            pred = logits.softmax(0) if self._decide_last else logits.argmax(0, keepdim=True).to(torch.uint8)
            del logits
            case["pred"] = MetaTensor(
                pred, meta=case["image"].meta, applied_operations=case["image"].applied_operations
            )
            case = self._invert(case)
            if self._decide_last:
                case["pred"] = case["pred"].argmax(0, keepdim=True)
        return case

    def write(self, case: dict[str, Any], out: Path) -> None:
        """The labels as NIfTI."""
        SaveImage(out, output_postfix="", output_dtype="uint8", resample=False, separate_folder=False, print_log=False)(
            case["pred"]
        )

    def predict(self, scans: Sequence[Path], out: Path) -> dict[str, float]:
        """All scans; seconds spent on reading, computing and writing."""
        seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        for path in scans:
            began = time.perf_counter()
            case = self.read(path)
            read = time.perf_counter()
            case = self.infer(case)
            computed = time.perf_counter()
            self.write(case, out)
            seconds["read"] += read - began
            seconds["compute"] += computed - read
            seconds["write"] += time.perf_counter() - computed
        return seconds


def load(folder: Path, *, precision: torch.dtype, back: Literal["probabilities", "labels"]) -> PlainMonai:
    """The loop with the network of a model folder."""
    from pipelines.modelfolder import load_model
    from workflows.tasks import register_tasks

    register_tasks()
    loaded = load_model(folder, device="cpu")
    plan = loaded.description["plan"]
    return PlainMonai(
        loaded.network,
        patch=plan["patch"],
        spacing=plan["preprocessing"]["spacing"],
        batch_size=loaded.description["infer"]["batch_size"],
        precision=precision,
        back=back,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--back", choices=("probabilities", "labels"), default="probabilities")
    options = parser.parse_args()
    loop = load(
        options.model,
        precision=torch.float32 if options.precision == "fp32" else torch.bfloat16,
        back=options.back,
    )
    print(json.dumps(loop.predict(options.scans, options.out)))


if __name__ == "__main__":
    main()
