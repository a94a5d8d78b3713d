"""Scattered frames, a dense clip, and a thousand openings of videos: Pulvinar against decord, PyAV and OpenCV alone.

Each side opens the file, reads 16 frames and closes it, with one thread, as a training worker does. PyAV alone is what
one would write by hand: one pass from the beginning, or seeking to each stretch. All sides take turns, and both count:
the clock, and the time of the processor, which other work on the machine disturbs less. Pulvinar is held against
whichever other side is the fastest. Files are the given ones and a made one of 1920 × 1080, or one that is made for
`--quick`.

    python benchmarks/video_decoding.py
    python benchmarks/video_decoding.py --files a.mp4 b.mkv --size 224
    python benchmarks/video_decoding.py --openings 1000
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import environment, parser, print_table, save, spread, told

COUNT = 16
Size = tuple[int, int] | None
Reader = Callable[[Path, Sequence[int], Size], Any]


def pulvinar(path: Path, numbers: Sequence[int], size: Size) -> Any:
    """`open_video`, as every pipeline opens a video."""
    from domains.video.decoding import open_video

    with open_video(path, size=size) as video:
        return video.read(numbers).images


def decord_alone(path: Path, numbers: Sequence[int], size: Size) -> Any:
    """decord without any check; it scales inside its decoder."""
    import decord

    height, width = size or (-1, -1)
    reader = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
    return reader.get_batch(list(numbers)).asnumpy()


def pyav_pass(path: Path, numbers: Sequence[int], size: Size) -> Any:
    """PyAV by hand: all frames from the first to the last that is wanted."""
    import av

    wanted, images = set(numbers), []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(file.decode(stream)):
            if number in wanted:
                images.append(_array(frame, size))
            if number == numbers[-1]:
                break
    return np.stack(images)


def pyav_seeks(path: Path, numbers: Sequence[int], size: Size) -> Any:
    """PyAV by hand: to the key frame before each frame that does not follow the last one, by the mean rate."""
    import av

    images: list[Any] = []
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.codec_context.thread_count = 1
        step = 1 / (stream.average_rate * stream.time_base)
        start, before = stream.start_time or 0, -2
        frames: Any = iter(())
        for number in numbers:
            if number != before + 1:
                file.seek(int(start + number * step), stream=stream)
                frames = file.decode(stream)
            for frame in frames:
                if frame.pts is not None and frame.pts - start >= (number - 0.5) * step:
                    images.append(_array(frame, size))
                    break
            before = number
    return np.stack(images)


def opencv_alone(path: Path, numbers: Sequence[int], size: Size) -> Any:
    """OpenCV by hand: grabs from one frame to the next, which is faster than its seeking by number."""
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    images, position = [], 0
    if numbers[0] > 0 and numbers[1] == numbers[0] + 1:
        capture.set(cv2.CAP_PROP_POS_FRAMES, numbers[0])
        position = numbers[0]
    for number in numbers:
        while position < number:
            capture.grab()
            position += 1
        image = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
        position += 1
        images.append(image if size is None else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    capture.release()
    return np.stack(images)


def _array(frame: Any, size: Size) -> Any:
    if size is None:
        return frame.to_ndarray(format="rgb24")
    return frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BILINEAR").to_ndarray()


SIDES: dict[str, Reader] = {
    "Pulvinar": pulvinar,
    "decord": decord_alone,
    "PyAV, one pass": pyav_pass,
    "PyAV, seeking": pyav_seeks,
    "OpenCV": opencv_alone,
}


def requests(frames: int) -> dict[str, list[int]]:
    """Name → frame numbers: spread over the video, and neighbours from its middle on."""
    middle = max(min(frames // 2, frames - COUNT), 0)
    return {
        "scattered": [int((at + 0.5) * frames / COUNT) for at in range(COUNT)],
        "dense": list(range(middle, min(middle + COUNT, frames))),
    }


def compare(path: Path, side: int, turns: int) -> list[dict[str, Any]]:
    """Seconds of each side for each request and size, in turns; a side that gives other frames is left out.

    Seconds are pairs: by the clock, and of the processor in all threads of the process.
    """
    from domains.video.decoding import open_video

    with open_video(path) as video:
        frames = video.info.frames
    rows = []
    for name, numbers in requests(frames).items():
        for size in (None, (side, side)):
            expected = pulvinar(path, numbers, size).astype(int)
            right = {label: read for label, read in SIDES.items() if _same(read, path, numbers, size, expected)}
            seconds: dict[str, list[tuple[float, float]]] = {label: [] for label in right}
            for turn in range(turns * _repeats(path, numbers, size) if turns > 1 else 1):
                for label in sorted(right, reverse=turn % 2 == 1):
                    gc.collect()
                    started = time.perf_counter(), time.process_time()
                    right[label](path, numbers, size)
                    seconds[label].append((time.perf_counter() - started[0], time.process_time() - started[1]))
            rows.append(_row(path, name, size, seconds))
    return rows


def _repeats(path: Path, numbers: Sequence[int], size: Size) -> int:
    """Small files take as many more turns: what else the machine does tells more there."""
    started = time.process_time()
    pulvinar(path, numbers, size)
    return 5 if time.process_time() - started < 0.03 else 1


def _same(read: Reader, path: Path, numbers: Sequence[int], size: Size, expected: Any) -> bool:
    try:
        images = read(path, numbers, size)
    except Exception as error:  # noqa: BLE001  # each library has errors of its own
        print(f"{path.name}: {read.__name__} fails: {type(error).__name__}")
        return False
    # Ways of scaling differ by a few grey values; another frame of a moving scene by more.
    if images.shape != expected.shape or np.abs(images - expected).mean() > 8:
        print(f"{path.name}: {read.__name__} gives other frames")
        return False
    return True


def _row(path: Path, request: str, size: Size, seconds: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "file": path.name,
        "request": request,
        "size": "as it is" if size is None else f"{size[0]}×{size[1]}",
    }
    for at, kind in enumerate(("clock", "processor")):
        taken = {label: [one[at] for one in values] for label, values in seconds.items()}
        others = {label: float(np.median(values)) for label, values in taken.items() if label != "Pulvinar"}
        best = min(others, key=others.__getitem__)
        row[kind] = {
            "seconds": taken,
            "best other": best,
            "times as fast": others[best] / float(np.median(taken["Pulvinar"])),
            "turn by turn": np.divide(taken[best], taken["Pulvinar"]).tolist(),
        }
    return row


def open_often(path: Path, times: int) -> dict[str, Any]:
    """Resident memory and open files, over openings of one file from which one frame is read."""
    import psutil

    from domains.video.decoding import open_video

    process, held = psutil.Process(), {}
    for number in range(times + 1):
        if number % max(times // 5, 1) == 0:
            gc.collect()
            held[number] = {"MiB": round(process.memory_info().rss / 2**20, 1), "files": process.num_fds()}
        with open_video(path) as video:
            video.read([video.info.frames // 2])
    return held


def made(path: Path, size: tuple[int, int], frames: int) -> Path:
    """A moving gradient with noise, H.264 with B-frames, a key frame every 50."""
    import av

    noise = np.random.default_rng(0).integers(0, 24, (*size, 3))
    rows, columns = np.mgrid[: size[0], : size[1]]
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 50
        for number in range(frames):
            wave = 110 + 100 * np.sin((rows + 2 * columns) / 40 + number / 3)
            image = np.clip(wave[..., None] + np.roll(noise, number, 1), 0, 255).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return path


def given_files(folder: Path, quick: bool) -> list[Path]:
    """Real videos where `PULVINAR_DATA` names them, and one of full size that is made."""
    from pipelines.fixtures import data_root

    if quick:
        return [made(folder / "quick.mp4", (96, 128), 60)]
    root = data_root()
    real = [
        *sorted((root / "videos").glob("*.*")),
        *sorted((root / "fight_surv" / "clips").glob("*.mp4"))[:2],
    ] if root else []  # fmt: skip
    return [*real, made(folder / "full-size.mp4", (1080, 1920), 120)]


def main() -> None:
    options = parser(__doc__ or "", turns=7)
    options.add_argument("--files", type=Path, nargs="+", help="videos to read instead of the given ones")
    options.add_argument("--size", type=int, default=112, help="side that frames are scaled to")
    options.add_argument("--openings", type=int, default=1000, help="openings over which memory is watched; 0: none")
    given = options.parse_args()
    about = environment()
    with tempfile.TemporaryDirectory() as folder:
        files = given.files or given_files(Path(folder), given.quick)
        rows = [row for path in files for row in compare(path, given.size, 1 if given.quick else given.turns)]
        openings = 10 if given.quick else given.openings
        held = open_often(files[0], openings) if openings else {}
    for kind in ("clock", "processor"):
        print(f"by the {kind}, ms")
        print_table(("file", "request", "size", *SIDES, "best other", "times as fast as it", "turn by turn"), [
            (
                *(row[name] for name in ("file", "request", "size")),
                *(_milliseconds(row[kind]["seconds"].get(name)) for name in SIDES),
                row[kind]["best other"],
                f"{row[kind]['times as fast']:.2f}",
                told(row[kind]["turn by turn"]),
            )
            for row in rows
        ])  # fmt: skip
    for number, now in held.items():
        print(f"after {number} openings: {now['MiB']} MiB, {now['files']} open files")
    for row in rows:
        for kind in ("clock", "processor"):
            row[kind]["turn by turn"] = spread(row[kind]["turn by turn"])
    save(given, "video_decoding", about, {"rows": rows, "openings": held})


def _milliseconds(seconds: Sequence[float] | None) -> str:
    return "–" if seconds is None else f"{1e3 * np.median(seconds):.1f}"


if __name__ == "__main__":
    main()
