"""`video`: what a video file holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workflows.commands.arguments import JsonOption
from workflows.console import next_steps, print_json, print_table, say

if TYPE_CHECKING:
    from pipelines.inference import BatchSummary

__all__ = ["video"]

video = typer.Typer(help="Videos: what can be read of them.", no_args_is_help=True)


@video.callback()
def _group() -> None:
    """Keeps `validate` a command of its own while it is the only one."""


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
        print_json(summary.as_dict())
    else:
        _tell(summary, out)
    return summary.exit_code


def _tell(summary: BatchSummary, out: Path) -> None:
    from domains.video.validation import read_manifest

    print_table(("outcome", "videos"), [(name, count) for name, count in summary.counts.items() if count])
    manifest = out / "joined" / "manifest.parquet"
    if manifest.is_file():
        rows = [
            (
                name,
                f"{row['readable']}/{row['frames']}" if row["damaged"] else row["frames"],
                f"{row['seconds']:.2f}",
                f"{row['width']}×{row['height']}",
                row["codec"],
                row["backend"],
                "; ".join(filter(None, [row["damaged"], row["notes"], "variable rate" if row["variable"] else ""])),
            )
            for name, row in read_manifest(manifest).items()
        ]
        print_table(("video", "frames", "seconds", "size", "codec", "decoded by", "notes"), rows)
    if summary.failures:
        print_table(("video", "outcome", "reason"), [(x.item_id, x.outcome, x.reason) for x in summary.failures])
    if summary.stopped:
        say(f"stopped early: {summary.stopped}; {summary.not_attempted} videos were not attempted")
    next_steps({"results": out, "manifest": manifest, "ledger": summary.ledger}, ["pulvinar list workflows"])
