"""Frames of a video with their times: what the file holds, in order, and nothing else."""

from domains.video.decoding.blocks import blocks
from domains.video.decoding.frames import Frame, Frames, VideoInfo
from domains.video.decoding.opening import VideoReader, open_video

__all__ = ["Frame", "Frames", "VideoInfo", "VideoReader", "blocks", "open_video"]
