"""`video`: what a video file holds, and skeletons from other formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.inference import BatchSummary

__all__ = ["video"]

video = typer.Typer(help="Videos: what can be read of them, and skeletons from other formats.", no_args_is_help=True)


@video.command()
def validate(
    inputs: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Videos, folders, globs, or a manifest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and the ledger.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one video may take.")] = 600.0,
    json: JsonOption = False,
) -> int:
    """Decode every frame of every video once: frames, times, rotation, what is damaged, what decodes it."""
    from domains.video.validation import ValidationSource
    from pipelines.inference import BatchSettings
    from pipelines.inference.batch import run_batch
    from pipelines.inference.progress import progress_reporter

    settings = BatchSettings(workers=workers, device="cpu", timeout=timeout)
    with progress_reporter() as report:
        summary = run_batch(ValidationSource(), [Path(one) for one in inputs], out, settings, report=report)
    if json:
        manifest = out / "joined" / "manifest.parquet"
        print_json(summary.as_dict() | {"manifest": str(manifest) if manifest.is_file() else None})
    else:
        _tell(summary, out)
    return summary.exit_code


@video.command()
def convert(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=".npz, .parquet, .pkl, .json, .skeleton, or folders.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz to write.")],
    joints: Annotated[
        str,
        typer.Option(help="Which joints the files hold, where they do not say: coco17, jhmdb15, ..., or a JSON file."),
    ] = "",
    classes: Annotated[Path | None, typer.Option(help="Text file with a class name in each line.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table with the columns clip and class; group and split may be there too.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which published split of a .pkl to keep, such as sub1.")] = "",
    json: JsonOption = False,
) -> int:
    """Gather skeletons of MMAction2, PYSKL, COCO, PoseTrack, NTU RGB+D or NumPy in one file."""
    from domains.video.skeletons.labels import label_clips
    from domains.video.skeletons.opening import find_joints, gather, read_class_names
    from domains.video.skeletons.sequences import save_skeletons
    from pipelines.errors import ConfigurationError

    if out.suffix.lower() != ".npz":
        raise ConfigurationError(f"{out.name} does not end in .npz", hint="Name the file to write: --out clips.npz")
    names = read_class_names(classes) if classes else ()
    found = gather(inputs, find_joints(joints) if joints else None, classes=names, split=split)
    if labels:
        found = label_clips(found, labels)
    save_skeletons(found, out)
    told = {
        "file": str(out),
        "joints": found.joints.name,
        "clips": len(found.sequences),
        "frames": sum(one.coordinates.shape[1] for one in found.sequences),
        "persons": max(len(one.coordinates) for one in found.sequences),
        "axes": found.sequences[0].coordinates.shape[3],
        "without_class": sum(not one.label for one in found.sequences),
    }
    if json:
        print_json(told)
    else:
        print_table(("skeletons", ""), [(name, value) for name, value in told.items() if name != "file"])
        next_steps({"file": out}, ["pulvinar run video/jhmdb-skeleton data.file=" + str(out)])
    return 0


def _tell(summary: BatchSummary, out: Path) -> None:
    from domains.video.validation import read_manifest

    print_table(("outcome", "videos"), [(name, count) for name, count in summary.counts.items() if count])
    manifest = out / "joined" / "manifest.parquet"
    if manifest.is_file():
        rows = [
            (
                row["source"],
                f"{row['readable']}/{row['frames']}" if row["damaged"] else row["frames"],
                f"{row['seconds']:.2f}",
                f"{row['width']}×{row['height']}",
                row["codec"],
                row["backend"],
                "; ".join(filter(None, [row["damaged"], row["notes"], "variable rate" if row["variable"] else ""])),
            )
            for row in read_manifest(manifest).values()
        ]
        print_table(("video", "frames", "seconds", "size", "codec", "decoded by", "notes"), rows)
    if summary.failures:
        print_table(
            ("video", "outcome", "reason"), [(x.source or x.item_id, x.outcome, x.reason) for x in summary.failures]
        )
    if summary.stopped:
        say(f"stopped early: {summary.stopped}; {summary.not_attempted} videos were not attempted")
    next_steps({"results": out, "manifest": manifest, "ledger": summary.ledger}, ["pulvinar list workflows"])
