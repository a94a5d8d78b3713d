"""`slides`: from slide files to tissue, tiles and bags of features."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.errors import ConfigurationError, Problem
from workflows.commands.arguments import JsonOption, known_device, settings_of
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from domains.medical.slides.slide_settings import SlideSettings
    from domains.medical.slides.steps import Step
    from pipelines.inference import BatchSummary

__all__ = ["slides"]

slides = typer.Typer(help="Whole-slide images: tissue, tiles, features.", no_args_is_help=True)

Inputs = Annotated[list[str], typer.Argument(metavar="SLIDE...", help="Slides, folders, globs, or a manifest.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and the ledger.")]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp", help="µm per pixel of the full resolution, for files that do not say it.", show_default=False
    ),
]
Outlines = Annotated[
    Path | None, typer.Option(help="Folder of corrected outlines, NAME.geojson, in place of the tissue that is found.")
]
Whole = Annotated[bool, typer.Option("--whole", help="Take the whole image for tissue, as with cores cut to size.")]
TileMpp = Annotated[str, typer.Option(help="µm per pixel of the tiles; `native` takes pixels as they are.")]
TileSize = Annotated[int, typer.Option(min=16, help="Side of a tile in pixels.")]
Overlap = Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")]
MinTissue = Annotated[float, typer.Option(min=0, max=1, help="Share of a tile that must be tissue.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Timeout = Annotated[float | None, typer.Option(min=0.1, help="Seconds that one slide may take.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, like tissue.lowest=0.08 or readers=4."),
]


@slides.command()
def tissue(
    inputs: Inputs,
    out: Out,
    mpp: Mpp = None,
    outlines: Outlines = None,
    workers: Workers = 1,
    timeout: Timeout = None,
    changes: Changes = None,
    json: JsonOption = False,
) -> int:
    """Find the tissue of each slide: GeoJSON for QuPath, and a picture."""
    chosen = {"mpp": mpp, "outlines": outlines}
    return _work("tissue", inputs, out, chosen, changes, workers=workers, timeout=timeout, json=json)


@slides.command()
def tiles(
    inputs: Inputs,
    out: Out,
    mpp: Mpp = None,
    tile_mpp: TileMpp = "0.5",
    tile_size: TileSize = 224,
    overlap: Overlap = 0,
    min_tissue: MinTissue = 0.25,
    whole: Whole = False,
    outlines: Outlines = None,
    workers: Workers = 1,
    timeout: Timeout = None,
    changes: Changes = None,
    json: JsonOption = False,
) -> int:
    """Lay tiles over the tissue of each slide: a table, GeoJSON for QuPath, and a picture."""
    chosen = {"mpp": mpp, "outlines": outlines} | _tiles(tile_mpp, tile_size, overlap, min_tissue, whole=whole)
    return _work("tiles", inputs, out, chosen, changes, workers=workers, timeout=timeout, json=json)


@slides.command()
def features(
    inputs: Inputs,
    out: Out,
    mpp: Mpp = None,
    tile_mpp: TileMpp = "0.5",
    tile_size: TileSize = 224,
    overlap: Overlap = 0,
    min_tissue: MinTissue = 0.25,
    whole: Whole = False,
    outlines: Outlines = None,
    encoder: Annotated[
        str, typer.Option(help="efficientnet_lite0, timm:MODEL, or a TorchScript file.")
    ] = "efficientnet_lite0",
    weights: Annotated[Path | None, typer.Option(help="File of weights for the encoder, safetensors or .pth.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow timm to fetch the weights.")] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N.", callback=known_device, metavar="DEVICE")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles through the encoder at once.")] = 32,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Numbers that the encoder computes with.")
    ] = "float32",
    workers: Workers = 1,
    timeout: Timeout = None,
    changes: Changes = None,
    json: JsonOption = False,
) -> int:
    """Turn each slide into a bag of features: tissue, tiles and encoder in one go, one HDF5 file a slide."""
    chosen: dict[str, Any] = {
        "mpp": mpp,
        "outlines": outlines,
        "batch_size": batch_size,
        "precision": precision,
        **_tiles(tile_mpp, tile_size, overlap, min_tissue, whole=whole),
        **_encoder(encoder, weights, download=download),
    }
    return _work("features", inputs, out, chosen, changes, workers=workers, timeout=timeout, json=json, device=device)


def _tiles(mpp: str, size: int, overlap: int, tissue: float, *, whole: bool) -> dict[str, Any]:
    try:
        resolution = mpp if mpp == "native" else float(mpp)
    except ValueError:
        raise ConfigurationError(f"--tile-mpp {mpp}: give µm per pixel, such as 0.5, or native") from None
    chosen = {"tiles.mpp": resolution, "tiles.size": size, "tiles.overlap": overlap, "tiles.tissue": tissue}
    return chosen | ({"tissue.method": "whole"} if whole else {})


def _encoder(name: str, weights: Path | None, *, download: bool) -> dict[str, Any]:
    kind, _, model = name.partition(":")
    if name == "efficientnet_lite0":
        return {"encoder": {"name": name, "weights": weights}}
    if kind == "timm" and model:
        return {"encoder": {"name": "timm", "model": model, "weights": weights, "download": download}}
    if Path(name).suffix.lower() in (".pt", ".ts", ".pth", ".torchscript"):
        return {"encoder": {"name": "torchscript", "file": name}}
    raise ConfigurationError(
        f"there is no encoder {name!r}; use efficientnet_lite0, timm:MODEL, or a TorchScript file (.pt)",
        hint="For example --encoder timm:vit_small_patch16_224.dino --weights FILE.",
    )


def _work(
    step: Step,
    inputs: list[str],
    out: Path,
    chosen: dict[str, Any],
    changes: list[str] | None,
    *,
    workers: int,
    timeout: float | None,
    json: bool,
    device: str = "cpu",
) -> int:
    from domains.medical.slides.steps import SlideStepSource
    from pipelines.inference import BatchSettings
    from pipelines.inference.batch import run_batch
    from pipelines.inference.progress import progress_reporter

    source = SlideStepSource(step, _settings({**chosen, **settings_of(changes or ())}), device)
    batch = BatchSettings(workers=workers, device=device, timeout=timeout)
    with progress_reporter() as report:
        summary = run_batch(source, [Path(one) for one in inputs], out, batch, report=report)
    if json:
        print_json(summary.as_dict())
    else:
        _tell(summary, step, inputs, out)
    return summary.exit_code


def _settings(chosen: dict[str, Any]) -> SlideSettings:
    """Validated settings from dotted keys. Raises `ConfigurationError` with every problem."""
    from pydantic import ValidationError

    from domains.medical.slides.slide_settings import SlideSettings

    nested: dict[str, Any] = {}
    for key, value in chosen.items():
        *above, last = key.split(".")
        place = nested
        for name in above:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ConfigurationError(f"{key}: {name} holds a value, no settings")
        place[last] = value
    try:
        return SlideSettings.model_validate(nested)
    except ValidationError as error:
        problems = [Problem("", ".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        raise ConfigurationError(problems, hint="Settings are listed in docs/reference/slides.md.") from None


def _tell(summary: BatchSummary, step: Step, inputs: list[str], out: Path) -> None:
    print_table(("outcome", "slides"), [(name, count) for name, count in summary.counts.items() if count])
    if summary.failures:
        print_table(("slide", "outcome", "reason"), [(x.item_id, x.outcome, x.reason) for x in summary.failures])
    if summary.stopped:
        say(f"stopped early: {summary.stopped}; {summary.not_attempted} slides were not attempted")
    told = shlex.join(inputs)
    following = {
        "tissue": [f"pulvinar slides features {told} --out FEATURES --outlines {shlex.quote(str(out))}"],
        "tiles": [f"pulvinar slides features {told} --out FEATURES"],
        "features": ["pulvinar init medical/bags DIR   (a starter for these bags)", f"pulvinar predict MODEL {out}"],
    }
    next_steps({"results": out, "ledger": summary.ledger}, following[step])
