"""Joints of persons in frames, by one trained network: cut, batch, look (twice), mirror, bring back to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domains.video.pose.boxes import FoundBox
from domains.video.pose.crops import Crop, box_around
from domains.video.pose.network import PoseOutput
from domains.video.pose.samples import normalise_batch
from domains.video.pose.settings import InputSettings
from domains.video.skeletons.joints import JointSet

__all__ = ["FrameClip", "FramePose", "PoseEstimator"]


@dataclass(frozen=True, eq=False)
class FrameClip:
    """A frame with its neighbours, and who is in it.

    Attributes:
        pictures: `T` pictures `(h, w, 3)` uint8, the frame in the middle.
        boxes: Who is looked at.
    """

    pictures: Sequence[NDArray[np.uint8]]
    boxes: Sequence[FoundBox]


@dataclass(frozen=True, eq=False)
class FramePose:
    """What was seen in a frame, in the order of its boxes.

    Attributes:
        points: float32 `(P, J, 2)`, pixels of the frame; NaN for a joint that the network never saw labelled.
        deviations: float32 `(P, J)`, how far off they may be in pixels (root mean square of an axis); NaN where that
            is not told.
        scores: float32 `(P, J)` in [0, 1]: how sure a joint is, times the score of the box; 0 for one that is not told.
        boxes: Where each person was looked for.
    """

    points: NDArray[np.float32]
    deviations: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: tuple[FoundBox, ...]

    @property
    def told(self) -> NDArray[np.bool_]:
        """`(P, J)`, which joints have a place."""
        return np.asarray(np.isfinite(self.points).all(-1))

    @property
    def sureness(self) -> NDArray[np.float32]:
        """`(P,)`: the mean score of a person's joints that have a place."""
        told = self.told
        return np.asarray((self.scores * told).sum(-1) / np.maximum(told.sum(-1), 1), np.float32)


class PoseEstimator:
    """Serves a network to frames.

    Args:
        network: Clips `(B, T, 3, H, W)` to `PoseOutput`.
        joints: Its joints.
        given: Size, margin and looks.
        device: Where it runs.
        precision: float32, bfloat16 or float16.
        mirror: Whether the mirrored picture is looked at too.
        batch: Persons at once.
        spread: What sigma is multiplied by to tell deviations (`ResidualFlow.spread`); NaN tells none.
        taught: `(J,)`, whether a joint was labelled anywhere in training; all were where it is left out.
    """

    def __init__(
        self,
        network: nn.Module,
        joints: JointSet,
        given: InputSettings,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        mirror: bool = True,
        batch: int = 32,
        spread: float = float("nan"),
        taught: Sequence[bool] | None = None,
    ) -> None:
        self._network = network.to(device).eval()
        self.joints, self.given = joints, given
        self._device, self._precision, self._batch = device, precision, batch
        self._spread = spread
        self._taught = np.ones(len(joints), bool) if taught is None else np.array(taught, bool)
        self._order = list(joints.mirror) if mirror and joints.flip else None

    def __call__(self, clips: Sequence[FrameClip]) -> list[FramePose]:
        """Joints of all persons of some frames, who go through the network together."""
        persons = [(clip, box) for clip in clips for box in clip.boxes]
        crops = [
            Crop.around(box.box, self.given.size, margin=1.0 if box.whole else self.given.margin) for _, box in persons
        ]
        points, deviations, scores = self._look([clip for clip, _ in persons], crops)
        if self.given.looks == 2:
            again = [at for at, (_, box) in enumerate(persons) if box.whole]
            closer = [self._closer(points[at]) for at in again]
            seen = self._look([persons[at][0] for at in again], closer)
            for whole, near in zip((points, deviations, scores), seen, strict=True):
                whole[again] = near
        # What comes out for a joint that nothing was learned of says nothing.
        points[:, ~self._taught], deviations[:, ~self._taught], scores[:, ~self._taught] = np.nan, np.nan, 0
        return _by_frame(clips, points, deviations, scores)

    def _closer(self, points: NDArray[np.float32]) -> Crop:
        box = box_around(points, self._taught)
        return Crop.around(box, self.given.size, margin=self.given.margin)

    def _look(
        self, clips: Sequence[FrameClip], crops: Sequence[Crop]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Points `(N, J, 2)`, deviations and scores `(N, J)` of each cut."""
        joints = len(self.joints)
        points = np.zeros((len(crops), joints, 2), np.float32)
        deviations, scores = (np.full((len(crops), joints), fill, np.float32) for fill in (np.nan, 1.0))
        for first in range(0, len(crops), self._batch):
            part = range(first, min(first + self._batch, len(crops)))
            cuts = np.empty((len(part), self.given.frames, *self.given.size, 3), np.uint8)
            for row, at in enumerate(part):
                for cut, picture in zip(cuts[row], clips[at].pictures, strict=True):
                    crops[at].cut(picture, out=cut)
            shares, sigma = self._run(torch.from_numpy(cuts))
            for row, at in enumerate(part):
                points[at] = crops[at].to_picture(shares[row])
                if sigma is not None:
                    deviations[at] = crops[at].lengths(sigma[row]).mean(-1) * self._spread
                    scores[at] = 1 - sigma[row].mean(-1)
        return points, deviations, scores

    def _run(self, cuts: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Coordinates and sigma `(N, J, 2)` in shares of cuts `(N, T, H, W, 3)`, with the mirrored ones' if asked for.

        Bytes are what is moved and mirrored; they become numbers on the device, all at once.
        """
        pinned = cuts.pin_memory() if self._device.type == "cuda" else cuts
        moved = pinned.to(self._device, non_blocking=True)
        both = torch.cat([moved, moved.flip(3)]) if self._order else moved
        was_training = self._network.training  # A caller may train the same network in between.
        if was_training:
            self._network.eval()
        half = self._precision != torch.float32
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, self._precision, enabled=half):
                output: PoseOutput = self._network(normalise_batch(both))
        finally:
            if was_training:
                self._network.train()
        coordinates = output.coordinates.double().cpu().numpy()
        sigma = None if output.sigma is None else output.sigma.double().cpu().numpy()
        if self._order is None:
            return coordinates, sigma
        plain, mirrored = np.split(coordinates, 2)
        mirrored = mirrored[:, self._order] * np.array([-1, 1]) + np.array([1, 0])
        if sigma is not None:
            one, other = np.split(sigma, 2)
            sigma = (one + other[:, self._order]) / 2
        return (plain + mirrored) / 2, sigma


def _by_frame(
    clips: Sequence[FrameClip],
    points: NDArray[np.float32],
    deviations: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> list[FramePose]:
    found, at = [], 0
    for clip in clips:
        part = slice(at, at + len(clip.boxes))
        sure = np.array([box.score for box in clip.boxes], np.float32).reshape(-1, 1)
        found.append(FramePose(points[part], deviations[part], scores[part] * sure, tuple(clip.boxes)))
        at = part.stop
    return found
