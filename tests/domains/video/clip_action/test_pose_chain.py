"""From a pose model to an action: what `predict` of the one writes is what the other reads, and lies on the pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from domains.video.clip_action.poses import PoseReader
from domains.video.clip_action.settings import PoseSettings
from domains.video.clip_action.skeleton_files import SkeletonFiles
from domains.video.decoding import open_video
from domains.video.pose.estimating import PoseEstimator
from domains.video.pose.network import PoseOutput
from domains.video.pose.predictor import PosePredictor
from domains.video.pose.settings import InputSettings
from domains.video.skeletons.joints import joint_set

JOINTS = joint_set("lsp14")
SIDE, FRAMES = 64, 6


class Brightest(nn.Module):
    """Puts all joints on the brightest pixel."""

    def forward(self, frames: torch.Tensor) -> PoseOutput:
        pictures = frames[:, frames.shape[1] // 2].mean(1)  # (B, H, W)
        height, width = pictures.shape[1:]
        place = pictures.flatten(1).argmax(1)
        x, y = (place % width + 0.5) / width, (place // width + 0.5) / height
        points = torch.stack([x, y], -1)[:, None].expand(-1, len(JOINTS), -1).contiguous()
        return PoseOutput(points, torch.full_like(points, 0.1))


def write_spot(path: Path) -> None:
    """A white square of 8 pixels that moves to the right, 8 pixels from frame to frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in range(FRAMES):
            image = np.full((SIDE, SIDE, 3), 30, np.uint8)
            image[24:32, 8 * number + 4 : 8 * number + 12] = 240
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def test_a_pose_model_writes_what_an_action_model_reads(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = tmp_path / "videos" / "spot.mp4"
    write_spot(video)
    estimator = PoseEstimator(
        Brightest(),
        JOINTS,
        InputSettings(size=(SIDE, SIDE), boxes="whole", looks=1),
        device=torch.device("cpu"),
        mirror=False,
    )
    poses = PosePredictor(estimator, block=4, overlay=False)
    (item,) = poses.discover([video])
    poses.write(item, poses.infer(poses.read(item)), tmp_path / "poses" / "spot")
    found, problem = SkeletonFiles(tmp_path / "poses").of(video)
    assert not problem
    assert found is not None
    assert found.name == "spot.parquet"
    with open_video(video, case_id="spot") as opened:
        track = PoseReader(PoseSettings(), JOINTS).of("spot", found, ("spot",), opened.info)
        images = opened.read(list(range(FRAMES))).images
    assert track.poses.shape == (1, FRAMES, 14, 3)
    assert (track.poses[..., 2] > 0).all()
    for frame, image in enumerate(images):
        column, row = (track.poses[0, frame, 0, :2] * SIDE).astype(int)
        assert image[row, column].mean() > 200  # on the square
