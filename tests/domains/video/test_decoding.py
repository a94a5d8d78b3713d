"""Frames are the file's own, each with its number and time, whatever a camera or an editor wrote."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from domains.video.decoding import open_video
from pipelines.errors import CaseError
from pipelines.fixtures import data_root

Make = Callable[..., Path]
Number = Callable[[Any], int]

EVEN = list(range(40))
UNEVEN = [0, 1, 2, 5, 6, 10, 11, 12, 20, 21, 35]

FILES = [
    pytest.param("plain.mp4", {"stamps": EVEN}, 0, id="H.264 in MP4"),
    pytest.param("uneven.mp4", {"stamps": UNEVEN}, 0, id="variable rate"),
    pytest.param("edited.mp4", {"stamps": EVEN, "skip": 7}, 7, id="edit list"),
    pytest.param("stream.ts", {"stamps": EVEN, "container": "mpegts"}, 0, id="transport stream"),
    pytest.param("av1.mp4", {"stamps": EVEN, "codec": "libsvtav1"}, 0, id="AV1"),
    pytest.param("vp9.webm", {"stamps": EVEN, "codec": "libvpx-vp9"}, 0, id="VP9 in WebM"),
    pytest.param("old.avi", {"stamps": EVEN, "codec": "mpeg4"}, 0, id="MPEG-4 in AVI"),
    pytest.param("h264.avi", {"stamps": EVEN}, 0, id="H.264 in AVI"),
    pytest.param("one.mp4", {"stamps": [0]}, 0, id="one frame"),
    pytest.param("timeless.mp4", {"stamps": EVEN, "timeless": True}, 0, id="one time stamp for all"),
]


@pytest.mark.parametrize(("name", "content", "first"), FILES)
@pytest.mark.parametrize("size", [None, (24, 64)], ids=["own size", "scaled"])
def test_every_frame_is_the_one_that_was_written(
    tmp_path: Path,
    make_video: Make,
    read_number: Number,
    name: str,
    content: dict[str, Any],
    first: int,
    size: tuple[int, int] | None,
) -> None:
    path = make_video(tmp_path / name, **content)
    stamps = content["stamps"][first:]
    with open_video(path, size=size) as video:
        assert video.info.frames == len(stamps)
        expected = (np.array(stamps) - stamps[0]) / 25
        assert video.info.times == pytest.approx(expected, abs=1e-3)
        scattered = [len(stamps) - 1, 0, len(stamps) // 2, 0]
        frames = video.read(scattered)
        assert [read_number(image) for image in frames.images] == [first + at for at in scattered]
        assert frames.times == pytest.approx(expected[scattered], abs=1e-3)
        assert list(frames.indices) == scattered
        assert frames.images.shape == (4, *(size or (48, 128)), 3)
        streamed = [(frame.index, read_number(frame.image)) for frame in video.stream(step=3)]
        assert streamed == [(at, first + at) for at in range(0, len(stamps), 3)]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_file_is_shown_upright(tmp_path: Path, make_video: Make, read_number: Number, degrees: int) -> None:
    path = make_video(tmp_path / "turned.mp4", stamps=EVEN, rotation=degrees)
    with open_video(path) as video:
        assert video.info.rotation == degrees
        shown = video.read([9]).images[0]
        assert shown.shape[:2] == (video.info.height, video.info.width)
        # Turned back, the picture is the one that the camera's sensor saw.
        assert read_number(np.rot90(shown, -degrees // 90)) == 9
        assert shown.shape[:2] == ((128, 48) if degrees % 180 else (48, 128))


@pytest.mark.parametrize(
    ("mirror", "turned"),
    [((True, False), 0), ((False, True), 0), ((True, False), 90), ((False, True), 270), ((True, True), 180)],
    ids=["left for right", "upside down", "turned and left for right", "turned and upside down", "all of them"],
)
def test_a_mirrored_file_is_shown_as_it_asks(
    tmp_path: Path, make_video: Make, read_number: Number, mirror: tuple[bool, bool], turned: int
) -> None:
    path = make_video(tmp_path / "mirrored.mp4", stamps=EVEN[:12], rotation=turned, mirror=mirror)
    with open_video(path) as video:
        shown = video.read([9]).images[0]
        assert ("mirrored" in " ".join(video.info.notes)) == (mirror[0] != mirror[1])
        assert shown.shape[:2] == (video.info.height, video.info.width)
    # Undone in the opposite order, the picture is the one that the camera's sensor saw.
    seen = shown[:: -1 if mirror[1] else 1, :: -1 if mirror[0] else 1]
    seen = np.rot90(seen, -turned // 90)
    assert read_number(seen) == 9
    assert seen[4].mean(axis=0)[0] > seen[-4].mean(axis=0)[0] + 50  # the reddish bar is at the top


@pytest.mark.parametrize("between", [1, 2, 3])
@pytest.mark.parametrize("held", [8 * 2**20, 0], ids=["packets held", "packets read again"])
def test_frames_that_divx_packed_are_each_found(
    tmp_path: Path,
    make_packed: Make,
    read_number: Number,
    monkeypatch: pytest.MonkeyPatch,
    between: int,
    held: int,
) -> None:
    monkeypatch.setattr("domains.video.decoding.packets._HELD", held)
    path = make_packed(tmp_path / "packed.avi", 40, between=between)
    with open_video(path) as video:
        assert video.info.frames == 40
        assert [read_number(frame.image) for frame in video.stream()] == EVEN
        assert [read_number(video.read([number]).images[0]) for number in EVEN] == EVEN
        assert [read_number(image) for image in video.read([5, 11, 12, 30, 39]).images] == [5, 11, 12, 30, 39]


def test_scaling_down_averages_areas(tmp_path: Path) -> None:
    import av
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (12, 240, 320, 1)).repeat(3, axis=3).astype(np.uint8)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 1) for image in noise])
    with av.open(str(tmp_path / "fine.mp4"), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        for image in smooth:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    with open_video(tmp_path / "fine.mp4") as video:
        whole = video.read([6]).images[0]
    for size in ((112, 112), (60, 80), (33, 41)):
        with open_video(tmp_path / "fine.mp4", size=size) as video:
            small = video.read([6]).images[0]
        expected = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
        difference = np.abs(small.astype(int) - expected).mean()
        nearest = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_NEAREST)
        assert difference < 2.5
        assert difference < np.abs(nearest.astype(int) - expected).mean() / 5


def test_what_a_recording_begins_with_in_the_middle_is_left_out(
    tmp_path: Path, make_video: Make, read_number: Number
) -> None:
    whole = make_video(tmp_path / "whole.ts", stamps=EVEN, container="mpegts", between_keys=15).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[188 * (len(whole) // 188 // 4) :])
    with open_video(tmp_path / "cut.ts") as video:
        shown = [read_number(frame.image) for frame in video.stream()]
        assert shown == list(range(15, 40))
        assert video.info.times == pytest.approx(np.arange(25) / 25, abs=1e-3)
        assert any("frames before the first that can be decoded" in note for note in video.info.notes)
        assert [read_number(image) for image in video.read([0, 24, 3]).images] == [15, 39, 18]


def test_a_recording_that_starts_over_gives_the_same_frames_however_it_is_read(
    tmp_path: Path, make_video: Make, read_number: Number
) -> None:
    first = make_video(tmp_path / "first.ts", stamps=EVEN, container="mpegts").read_bytes()
    turned = tmp_path / "second.ts"
    make_video(turned, stamps=list(range(0, 60, 2)), container="mpegts")  # frame n is shown when frame 2 n was
    (tmp_path / "both.ts").write_bytes(first + turned.read_bytes())
    with open_video(tmp_path / "both.ts") as video:
        streamed = [read_number(frame.image) for frame in video.stream()]
        assert streamed[:40] == EVEN
        assert [read_number(video.read([at]).images[0]) for at in range(len(streamed))] == streamed
        assert any("start over" in note for note in video.info.notes)


def test_a_size_that_changes_within_a_file_is_told_unless_one_is_asked_for(
    tmp_path: Path, make_video: Make, read_number: Number
) -> None:
    first = make_video(tmp_path / "first.ts", stamps=EVEN[:20], container="mpegts").read_bytes()
    larger = make_video(tmp_path / "second.ts", stamps=list(range(30, 50)), container="mpegts", size=(96, 256))
    (tmp_path / "both.ts").write_bytes(first + larger.read_bytes())
    with open_video(tmp_path / "both.ts") as video:
        with pytest.raises(CaseError, match="frame 20 is coded as 256×96, others as 128×48"):
            video.read([0, 20])
        with pytest.raises(CaseError, match="256×96"):
            list(video.stream())
    with open_video(tmp_path / "both.ts", size=(48, 128)) as video:
        assert [read_number(image) for image in video.read([3, 20, 39]).images] == [3, 0, 19]


def test_frames_behind_a_damaged_one_are_refused_until_the_next_key_frame(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "plain.mp4", stamps=EVEN, options={"bf": "0"}, between_keys=10)
    with open_video(path) as video:
        right = video.read(EVEN).images
        packets = [(packet.pos, packet.size) for packet in video.packets.held]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    place, size = packets[13]
    content[place + 5 : place + size] = bytes(size - 5)
    path.write_bytes(content)
    refused = []
    with open_video(path) as video:
        for number in EVEN:
            try:
                assert (video.read([number]).images[0] == right[number]).all()
            except CaseError:
                refused.append(number)
    assert refused == list(range(13, 20))


def test_packets_missing_in_avi_shift_no_frame(tmp_path: Path, make_video: Make, read_number: Number) -> None:
    path = make_video(tmp_path / "holes.avi", stamps=EVEN, codec="msmpeg4", between_keys=5)
    with open_video(path) as video:
        places = [packet.pos for packet in video.packets.held]  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[places[16] - 8 : places[18] - 8] = bytes(places[18] - places[16])
    path.write_bytes(content)
    with open_video(path) as video:
        assert any("packets are missing after frame 15" in note for note in video.info.notes)
        assert [read_number(frame.image) for frame in video.stream()] == list(range(16))


def test_what_is_unusual_is_noted(tmp_path: Path, make_video: Make) -> None:
    from fractions import Fraction

    with open_video(make_video(tmp_path / "wide.mp4", stamps=EVEN, aspect=Fraction(16, 11))) as video:
        assert video.info.notes == ("pixels are 16:11 wide to high; frames are not stretched",)
    with open_video(make_video(tmp_path / "askew.mp4", stamps=EVEN, rotation=30)) as video:
        assert video.info.notes == ("the file asks for 30 degrees; it is turned by 0",)
    whole = make_video(tmp_path / "whole.mp4", stamps=EVEN, muxing={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) - 300])
    with open_video(tmp_path / "cut.mp4") as video:
        assert video.info.notes == (f"the file announces 40 frames and holds {video.info.frames}",)
        assert video.info.frames < 40


def test_what_the_file_holds_can_be_asked_at_any_time(tmp_path: Path, make_video: Make, read_number: Number) -> None:
    path = make_video(tmp_path / "plain.mp4", stamps=EVEN, rotation=90)
    with open_video(path) as video:
        shown = [(number_of_turned(frame.image, read_number), video.info.rotation) for frame in video.stream()]
    assert shown == [(number, 90) for number in EVEN]
    with open_video(path) as video:
        pass
    assert (video.info.height, video.info.width, video.info.frames) == (128, 48, 40)


def number_of_turned(image: Any, read_number: Number) -> int:
    return read_number(np.rot90(image, -1))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        pytest.param("edited.mp4", {"stamps": EVEN, "skip": 7}, "edit list", id="edit list"),
        pytest.param("stream.ts", {"stamps": EVEN, "container": "mpegts"}, "mpegts", id="transport stream"),
        pytest.param("av1.mp4", {"stamps": EVEN, "codec": "libsvtav1"}, "codec", id="AV1"),
        pytest.param("h264.avi", {"stamps": EVEN}, "another one", id="frames that it gives in another order"),
    ],
)
def test_decord_is_not_used_where_it_would_be_wrong(
    tmp_path: Path, make_video: Make, name: str, content: dict[str, Any], why: str
) -> None:
    path = make_video(tmp_path / name, **content)
    with open_video(path) as video:
        assert video.backend == "pyav"
    with pytest.raises(CaseError, match=f"decord does not serve this file rightly.*{why}"):
        open_video(path, backend="decord")


def test_decord_serves_a_plain_file_and_gives_the_same_pixels(tmp_path: Path, make_video: Make) -> None:
    pytest.importorskip("decord")
    path = make_video(tmp_path / "plain.mp4", stamps=EVEN)
    with open_video(path, backend="decord") as other, open_video(path) as reference:
        assert (other.backend, reference.backend) == ("decord", "pyav")
        numbers = [3, 3, 39, 17]
        assert np.abs(other.read(numbers).images.astype(int) - reference.read(numbers).images).max() <= 2
        assert list(other.read(numbers).times) == list(reference.read(numbers).times)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"options": {"bf": "3", "b-pyramid": "normal"}}, id="H.264"),
        pytest.param(
            {"container": "mpegts", "options": {"x264-params": "open-gop=1:keyint=12:bframes=3"}}, id="H.264, streamed"
        ),
        pytest.param({"codec": "libx265", "options": {"x265-params": "bframes=4:log-level=none"}}, id="HEVC"),
        pytest.param({"codec": "mpeg2video", "options": {"bf": "2"}}, id="MPEG-2"),
    ],
)
@pytest.mark.parametrize("held", [8 * 2**20, 0], ids=["packets held", "packets read again"])
def test_frames_skipped_on_the_way_change_no_other(
    tmp_path: Path, make_video: Make, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], held: int
) -> None:
    import av

    monkeypatch.setattr("domains.video.decoding.packets._HELD", held)
    path = make_video(tmp_path / "b-frames.mp4", stamps=EVEN, between_keys=20, **content)
    with av.open(str(path)) as file:
        plain = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    with open_video(path) as video:
        assert bool(video.packets.held) == bool(held)  # type: ignore[attr-defined]
        for numbers in ([39], [7, 8, 33], [21, 0, 38], list(range(40))):
            assert (video.read(numbers).images == plain[numbers]).all()


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_files_are_closed_whether_they_could_be_read_or_not(tmp_path: Path, make_video: Make, backend: Any) -> None:
    good = make_video(tmp_path / "plain.mp4", stamps=EVEN[:12])
    (tmp_path / "text.mp4").write_text("words\n" * 100)
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:600])
    bad = [tmp_path / "text.mp4", tmp_path / "cut.mp4"]
    edited = make_video(tmp_path / "edited.mp4", stamps=EVEN, skip=7)

    def use() -> int:
        for _ in range(5):
            with open_video(good, backend=backend) as video:
                video.read([3])
            for path in bad if backend == "pyav" else [*bad, edited]:
                with pytest.raises(CaseError):
                    open_video(path, backend=backend)
        gc.collect()
        return psutil.Process().num_fds()

    assert use() == use()


@pytest.mark.parametrize("kept", [0.35, 0.7], ids=["a third", "two thirds"])
def test_a_file_that_is_cut_off_gives_its_own_frames_at_their_own_times(
    tmp_path: Path, make_video: Make, read_number: Number, kept: float
) -> None:
    content = make_video(tmp_path / "whole.ts", stamps=EVEN, container="mpegts").read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(content[: int(len(content) * kept)])
    with open_video(cut) as video:
        assert 0 < video.info.frames < 40
        for number in range(video.info.frames):
            try:
                frames = video.read([number])
            except CaseError:
                assert number >= video.info.frames - 2  # the one that the cut went through
                continue
            # A frame that refers to later ones may be lost where a later one is not: its time tells which one this is.
            assert read_number(frames.images[0]) == round(frames.times[0] * 25)


def test_frames_that_were_overwritten_are_never_replaced_by_others(
    tmp_path: Path, make_video: Make, read_number: Number
) -> None:
    path = make_video(tmp_path / "holes.mp4", stamps=EVEN, options={"bf": "0"}, between_keys=10)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + len(content) // 4
    content[start : start + len(content) // 4] = bytes(len(content) // 4)
    path.write_bytes(content)
    shown, refused = {}, []
    with open_video(path, backend="pyav") as video:
        for number in range(video.info.frames):
            try:
                shown[number] = read_number(video.read([number]).images[0])
            except CaseError:
                refused.append(number)
    assert refused
    assert all(number == seen for number, seen in shown.items())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"these are words\n" * 50, "no video can be opened|no video stream", id="text"),
        pytest.param(bytes(20_000), "no video can be opened", id="zeros"),
    ],
)
def test_what_is_no_video_is_told_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "case7.mp4").write_bytes(content)
    with pytest.raises(CaseError, match=f"case7: .*({reason})"):
        open_video(tmp_path / "case7.mp4")


def test_a_file_that_is_not_there_and_a_frame_that_is_not_there_are_told(tmp_path: Path, make_video: Make) -> None:
    with pytest.raises(CaseError, match=r"there is no file gone\.mp4"):
        open_video(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(CaseError, match=r"folder\.mp4 is a folder"):
        open_video(tmp_path / "folder.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(CaseError, match=r"pipe\.mp4 is a device or a pipe"):
        open_video(tmp_path / "pipe.mp4")
    with pytest.raises(CaseError, match=r"none of its 40 packets has a time stamp(.|\n)*ffmpeg -r RATE"):
        open_video(make_video(tmp_path / "bare.h264", stamps=EVEN, container="h264"))
    with open_video(make_video(tmp_path / "plain.mp4", stamps=EVEN)) as video:
        with pytest.raises(CaseError, match="frame 40 was asked for; the video has frames 0 to 39"):
            video.read([3, 40])
        with pytest.raises(ValueError, match="indices"):
            video.read([])


@pytest.mark.parametrize("filmed", [True, False], ids=["beside a video", "beside sound only"])
def test_the_picture_of_a_cover_is_no_video(tmp_path: Path, read_number: Number, filmed: bool) -> None:
    import av
    from av.stream import Disposition

    path = tmp_path / "song.mp4"
    grey = av.VideoFrame.from_ndarray(np.full((48, 128, 3), 90, np.uint8), format="rgb24")
    with av.open(str(path), "w") as file:
        sound: Any = file.add_stream("aac", rate=48000, layout="mono")
        cover: Any = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 128, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        packets = cover.encode(grey.reformat(format="yuvj420p")) + cover.encode()
        film: Any = file.add_stream("libx264", rate=25) if filmed else None
        if film is not None:
            film.width, film.height, film.pix_fmt = 128, 48, "yuv420p"
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        quiet.sample_rate, quiet.pts = 48000, 0
        for packet in [*sound.encode(quiet), *packets, *sound.encode()]:
            file.mux(packet)
        if film is not None:
            for _ in range(5):
                file.mux(film.encode(grey))
            file.mux(film.encode())
    if filmed:
        with open_video(path) as video:
            assert (video.info.codec, video.info.frames) == ("h264", 5)
    else:
        with pytest.raises(CaseError, match=r"song\.mp4 holds no video stream"):
            open_video(path)


def test_a_file_that_nobody_may_read_is_told(tmp_path: Path, make_video: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "plain.mp4", stamps=EVEN[:3])

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Taking away rights would not do: tests may be run by the user who may read everything.
    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(CaseError, match=r"plain\.mp4 cannot be read: Permission denied"):
        open_video(path)


def test_memory_is_flat_over_many_openings(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "plain.mp4", stamps=EVEN[:12])

    def open_often(times: int) -> int:
        for _ in range(times):
            with open_video(path, backend="pyav") as video:
                video.read([5])
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    settled = open_often(60)
    assert open_often(120) - settled < 12 * 2**20


def test_the_videos_at_hand_are_read_whole() -> None:
    root = data_root()
    if root is None or not (root / "videos").is_dir():
        pytest.skip("needs the data set 'videos' (PULVINAR_DATA)")
    frames = {}
    for path in sorted((root / "videos").iterdir()):
        with open_video(path, size=(48, 64)) as video:
            frames[path.name] = sum(1 for _ in video.stream(step=40))
            assert frames[path.name] == -(-video.info.frames // 40)
    assert frames["vtest.avi"] == 20
