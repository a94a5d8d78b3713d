"""One trained network, ready to serve: a clip of skeletons in, probabilities and the importance of every joint out."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domains.video.skeleton_action.clips import Preparation, select_persons
from domains.video.skeleton_action.plan import SkeletonPlan
from domains.video.skeletons.joints import JointSet
from domains.video.skeletons.opening import open_skeletons, skeleton_files
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet
from pipelines.caseids import identifier_problem, normal_identifier
from pipelines.errors import CaseError, DataError
from pipelines.task import Item, Predictor, Written

__all__ = ["ActionPrediction", "LoadedClip", "SkeletonPredictor", "stretch"]


@dataclass(frozen=True, eq=False)
class LoadedClip:
    """A clip that was read.

    Attributes:
        pose: float32 `(P, T, J, D)`, all frames of the persons that are looked at, in the unit of the source.
        coordinates: float32 `(P, frames, J, D)`, normalised and resampled.
        seen: float32 `(P, frames, J)`.
        seconds: Time of each step.
    """

    pose: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    seen: NDArray[np.float32]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ActionPrediction:
    """What a network says of one clip.

    Attributes:
        probabilities: float64 `(classes,)`.
        importance: float32 `(P, T, J)`, how much each joint counts in each frame of the source; over a person that is
            there it sums to one.
        pose: As read, for pictures.
        seconds: Time of each step.
    """

    probabilities: NDArray[np.float64]
    importance: NDArray[np.float32]
    pose: NDArray[np.float32]
    seconds: Mapping[str, float] = field(default_factory=dict)


class SkeletonPredictor(Predictor[LoadedClip, ActionPrediction]):
    """Serves a network of skeletons.

    Args:
        network: Coordinates and what was seen to `SkeletonOutput`.
        plan: Joints and classes.
        preparation: Makes samples of sequences.
        device: Where the network runs.
        precision: float32, bfloat16 or float16.
        mirror: Whether the mirrored clip is looked at too.
        importance_table: Whether the importance of every joint is written.
        known: Case id → sequence, for cases that were read already.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: SkeletonPlan,
        preparation: Preparation,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        mirror: bool = True,
        importance_table: bool = True,
        known: Mapping[str, SkeletonSequence] | None = None,
    ) -> None:
        self._network = network.to(device).eval()
        self._plan, self._preparation = plan, preparation
        self._device, self._precision = device, precision
        self._mirror = mirror and plan.joints.mirror != tuple(range(len(plan.joints)))
        self._importance_table, self._known = importance_table, known or {}

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The clips in files and folders; a file that cannot be read, or holds other joints, is one with a problem."""
        files: list[Path] = []
        for given in inputs:
            files += (skeleton_files(given) if given.is_dir() else []) or [given]
        return [item for file in dict.fromkeys(files) for item in self._items(file)]

    def read(self, item: Item) -> LoadedClip:
        """Reads and prepares a clip. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        sequence = self._known.get(item.item_id) or self._find(item)
        pose, _ = select_persons(sequence, self._preparation.clip.persons)
        if pose.shape[3] != self._plan.axes:
            raise CaseError(item.item_id, f"{pose.shape[3]} coordinates a joint; the model knows {self._plan.axes}")
        coordinates, seen = self._preparation.sample(sequence)
        return LoadedClip(pose, coordinates, seen, {"read": time.perf_counter() - started})

    def infer(self, loaded: LoadedClip) -> ActionPrediction:
        """Probabilities, and what they rest on."""
        started = time.perf_counter()
        coordinates = torch.from_numpy(loaded.coordinates)[None].to(self._device)  # (1, P, T, J, D)
        seen = torch.from_numpy(loaded.seen)[None].to(self._device)
        was_training = self._network.training  # A caller may train the same network in between.
        self._network.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, self._precision, enabled=self._precision != torch.float32),
            ):
                output = self._network(coordinates, seen)
                chances = output.logits.double().softmax(-1)
                if self._mirror:
                    chances = (
                        chances + self._network(*self._mirrored(coordinates, seen)).logits.double().softmax(-1)
                    ) / 2
        finally:
            self._network.train(was_training)
        importance = stretch(output.importance[0].float().cpu().numpy(), loaded.pose.shape[1])
        seconds = {**loaded.seconds, "infer": time.perf_counter() - started}
        return ActionPrediction(chances[0].cpu().numpy(), importance, loaded.pose, seconds)

    def write(self, item: Item, result: ActionPrediction, folder: Path) -> Written:
        """Writes `ITEM.json`, and `ITEM.importance.csv`: a line for each person and frame, a column for each joint."""
        folder.mkdir(parents=True, exist_ok=True)
        summary = self.summarise(result)
        files = [folder / f"{item.item_id}.json"]
        files[0].write_text(
            json.dumps({"item": item.item_id, **summary}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if self._importance_table:
            files.append(folder / f"{item.item_id}.importance.csv")
            with files[-1].open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["person", "frame", *self._plan.joints.joints])
                for person, rows in enumerate(result.importance):
                    writer.writerows([person, frame, *(f"{x:.6g}" for x in row)] for frame, row in enumerate(rows))
        return Written(tuple(files), summary)

    def summarise(self, result: ActionPrediction) -> dict[str, Any]:
        """Class, probabilities, frames, and the joints that counted most: plain values."""
        of_joint = result.importance.sum((0, 1))
        most = np.argsort(-of_joint, kind="stable")[:3]
        return {
            "predicted": self._plan.classes[int(result.probabilities.argmax())],
            "probabilities": {
                name: round(float(value), 6)
                for name, value in zip(self._plan.classes, result.probabilities, strict=True)
            },
            "frames": result.importance.shape[1],
            "most_important": [self._plan.joints.joints[place] for place in most],
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        }

    def _items(self, file: Path) -> list[Item]:
        if not file.is_file():
            return [Item(file.stem or str(file), (file,), "skeletons", problem="there is no such file")]
        try:
            held = _opened(file, file.stat().st_mtime_ns, self._plan.joints)
        except DataError as error:
            return [Item(file.stem, (file,), "skeletons", problem=error.message)]
        items = []
        for one in held.sequences:
            item_id = normal_identifier(one.name.replace("/", "-"))
            items.append(Item(item_id, (file,), "skeletons", {"clip": one.name}, identifier_problem(item_id)))
        return items or [Item(file.stem, (file,), "skeletons", problem="the file holds no skeletons")]

    def _find(self, item: Item) -> SkeletonSequence:
        file = item.paths[0]
        try:
            held = _opened(file, file.stat().st_mtime_ns, self._plan.joints)
        except OSError as error:
            raise CaseError(item.item_id, f"{file.name} cannot be read: {error.strerror or error}") from error
        except DataError as error:
            raise CaseError(item.item_id, error.message, hint=error.hint) from error
        for one in held.sequences:
            if one.name == item.detail.get("clip"):
                return one
        raise CaseError(item.item_id, f"{file.name} holds no clip {item.detail.get('clip')!r}")

    def _mirrored(self, coordinates: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        order = list(self._plan.joints.mirror)
        signs = coordinates.new_ones(coordinates.shape[-1])
        signs[0] = -1
        return coordinates[..., order, :] * signs, seen[..., order]


@lru_cache(maxsize=8)
def _opened(path: Path, _: int, joints: JointSet) -> SkeletonSet:
    return open_skeletons(path, joints)


def stretch(importance: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Importance `(P, steps, J)` over the frames of the source `(P, frames, J)`, with the same sum of each person."""
    steps = importance.shape[1]
    places = np.linspace(0, steps - 1, frames)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, steps - 1)
    share = (places - below)[:, None]
    spread = importance[:, below] * (1 - share) + importance[:, above] * share
    sums = spread.sum((1, 2), keepdims=True)
    scaled: NDArray[np.float32] = (spread * importance.sum((1, 2), keepdims=True) / np.where(sums > 0, sums, 1)).astype(
        np.float32
    )
    return scaled
