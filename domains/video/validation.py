"""Looking once at every frame of a video: what can be read of it, and by what.

    VIDEO → VIDEO.json (facts) and VIDEO.times.csv (a line for each frame); all of a batch → joined/manifest.parquet

It runs as a batch with a ledger: a file that hangs a decoder is ended by the time limit, and a second call looks only
at what is new or has changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.opening import open_video
from domains.video.discovery import discover_videos
from pipelines.errors import CaseError
from pipelines.inference.source import OpenedPredictor, digest_of
from pipelines.task import FinishedItem, Item, Predictor, Written

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ValidationSource", "VideoFacts", "VideoValidation", "look_through", "read_manifest"]


@dataclass(frozen=True)
class VideoFacts:
    """What one look at all frames found.

    Attributes:
        frames: Frames that the packets of the file hold, damaged or not.
        readable: Frames from the first one on that can be decoded without a gap.
        damaged: Why the next one cannot be; empty where all can.
        seconds: From the first frame to the last.
        rate: Mean frames a second; None for one frame.
        variable: Whether frames lie unevenly.
        height: Rows, as shown.
        width: Columns, as shown.
        rotation: Degrees counter-clockwise that frames are turned to be shown.
        codec: Of the video stream.
        container: Of the file.
        edited: Whether an edit list hides frames.
        backend: What decodes the file in training and prediction.
        decord: Why decord must not decode it; empty where its count and three of its frames are right.
        sha256: Of the file.
        bytes: Of the file.
        notes: What is unusual and was dealt with.
    """

    frames: int
    readable: int
    damaged: str
    seconds: float
    rate: float | None
    variable: bool
    height: int
    width: int
    rotation: int
    codec: str
    container: str
    edited: bool
    backend: str
    decord: str
    sha256: str
    bytes: int
    notes: tuple[str, ...] = ()


def look_through(path: Path, case_id: str) -> tuple[VideoFacts, NDArray[np.float64]]:
    """Decodes a video from the first frame to the last that can be read.

    Returns:
        The facts, and the times of the readable frames in seconds, `(readable,)`.

    Raises:
        CaseError: Not one frame can be read.
    """
    import hashlib

    readable, damaged = 0, ""
    with open_video(path, case_id=case_id) as video:
        backend, info = video.backend, video.info
        try:
            for frame in video.stream():
                readable = frame.index + 1
        except CaseError as error:
            damaged = error.reason
    if not readable:
        raise CaseError(case_id, damaged, hint="Not one frame can be read: copy or record the file again.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = VideoFacts(
        frames=info.frames,
        readable=readable,
        damaged=damaged,
        seconds=round(float(info.times[readable - 1]), 6),
        rate=round(info.rate, 6) if info.frames > 1 else None,
        variable=info.variable,
        height=info.height,
        width=info.width,
        rotation=info.rotation,
        codec=info.codec,
        container=info.container,
        edited=info.edited,
        backend=backend,
        decord=_refused_by_decord(path, case_id),
        sha256=digest,
        bytes=path.stat().st_size,
        notes=info.notes,
    )
    return facts, info.times[:readable]


def _refused_by_decord(path: Path, case_id: str) -> str:
    from domains.video.decoding.decord_reader import refusal
    from domains.video.decoding.pyav_reader import PyAVReader

    with PyAVReader(path, case_id) as reference:
        return refusal(reference)


@dataclass(frozen=True)
class _Looked:
    facts: VideoFacts
    times: NDArray[np.float64]
    took: float


class VideoValidation(Predictor[_Looked, _Looked]):
    """Looks through videos, one after another."""

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The videos in files, folders and globs."""
        return discover_videos(inputs)

    def read(self, item: Item) -> _Looked:
        """Decodes all frames. Raises `CaseError` where not one can be read."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        facts, times = look_through(item.paths[0], item.item_id)
        return _Looked(facts, times, time.perf_counter() - started)

    def infer(self, loaded: _Looked) -> _Looked:
        """There is nothing to compute."""
        return loaded

    def write(self, item: Item, result: _Looked, folder: Path) -> Written:
        """Writes the facts and the times."""
        folder.mkdir(parents=True, exist_ok=True)
        facts, times = folder / f"{item.item_id}.json", folder / f"{item.item_id}.times.csv"
        summary = asdict(result.facts)
        facts.write_text(json.dumps({"item": item.item_id, **summary}, indent=2) + "\n", encoding="utf-8")
        lines = [f"{number},{second:.6f}" for number, second in enumerate(result.times)]
        times.write_text("\n".join(["frame,seconds", *lines]) + "\n", encoding="utf-8")
        speed = result.facts.readable / max(result.took, 1e-9)
        return Written((facts, times), summary | {"frames_per_second": round(speed, 1)})


@dataclass(frozen=True)
class ValidationSource:
    """Gives workers the validation, and puts its results into one manifest."""

    joins: bool = True

    @property
    def model_digest(self) -> str:
        """Changes when what is looked for does."""
        return digest_of({"step": "video validation", "format": 3})

    @property
    def settings_digest(self) -> str:
        """There is nothing to set."""
        return digest_of({})

    def open(self, *, index: int, workers: int) -> OpenedPredictor:
        """The validation; it needs no device."""
        return OpenedPredictor(VideoValidation(), "cpu", 1)

    def join(self, results: Sequence[FinishedItem], folder: Path) -> None:
        """Writes `manifest.parquet`: a row for each video, by item."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for result in results:
            facts = json.loads((result.folder / f"{result.item_id}.json").read_text(encoding="utf-8"))
            rows.append({"source": result.source, **facts, "notes": "; ".join(facts["notes"])})
        if rows:
            table = pd.DataFrame(rows).sort_values("item", ignore_index=True)
            table.to_parquet(folder / "manifest.parquet", index=False)


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Item → facts, from `manifest.parquet` or the output folder that holds it."""
    import pandas as pd

    file = path / "joined" / "manifest.parquet" if path.is_dir() else path
    rows = pd.read_parquet(file).to_dict("records")
    return {str(row["item"]): {str(name): value for name, value in row.items()} for row in rows}
