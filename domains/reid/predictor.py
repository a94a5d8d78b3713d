"""One trained network, ready to serve: pictures in, embeddings and classes out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from domains.reid.discovery import discover_pictures
from domains.reid.images import ImageInput, Pixels
from domains.reid.models.embedder import Embedded
from domains.reid.plan import Plan
from pipelines.errors import CaseError
from pipelines.pictures import read_picture
from pipelines.task import Item, Predictor, Written

__all__ = ["LoadedPicture", "PicturePredictor", "PictureResult"]

_TOLD = 5


@dataclass(frozen=True)
class LoadedPicture:
    """A picture that was read: resized `(H, W, 3)`, and the number of its camera."""

    picture: Pixels
    side: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PictureResult:
    """What the network says.

    Attributes:
        embedding: `(D,)` float32 of length 1; with attributes `(A, D)`.
        logits: `(I,)` log-probabilities of the classes seen in training.
        picture: The picture as the network saw it, `(H, W, 3)`.
        side: Number of its camera, 0 for unknown.
        seconds: Timings.
    """

    embedding: NDArray[np.float32]
    logits: NDArray[np.float32]
    picture: Pixels
    side: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


class PicturePredictor(Predictor[LoadedPicture, PictureResult]):
    """Serves a network.

    Args:
        network: `(image, side)` → `Embedded`.
        given: How a picture becomes its input.
        plan: Classes, cameras and views.
        device: Where the network runs.
        precision: float32, bfloat16 or float16.
        mirror: Whether the mirrored picture is embedded too.
    """

    def __init__(
        self,
        network: nn.Module,
        given: ImageInput,
        plan: Plan,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        mirror: bool = False,
    ) -> None:
        self._network = network.to(device).eval()
        self._given, self._plan, self._device = given, plan, device
        self._precision, self._mirror = precision, mirror

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The pictures in files, folders and globs."""
        return discover_pictures(inputs)

    def read(self, item: Item) -> LoadedPicture:
        """Reads and resizes a picture. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        picture = read_picture(item.paths[0], item.item_id)
        resized = self._given.middle(self._given.resize(picture))
        return LoadedPicture(resized, self._plan.side(item.detail), {"read": time.perf_counter() - started})

    def infer(self, loaded: LoadedPicture) -> PictureResult:
        """The embedding and the classes of a picture."""
        started = time.perf_counter()
        image = torch.from_numpy(self._given.normalise(loaded.picture)).to(self._device)[None]
        if self._mirror:
            image = torch.cat([image, image.flip(-1)])
        side = torch.full((len(image),), loaded.side, device=self._device)
        # A caller may train the same network in between.
        was_training = self._network.training
        self._network.eval()
        half = self._precision != torch.float32
        try:
            with torch.inference_mode(), torch.autocast(self._device.type, self._precision, enabled=half):
                out = cast("Embedded", self._network(image, side if self._plan.sides else None))
        finally:
            self._network.train(was_training)
        embedding = nn.functional.normalize(out.embedding.float().mean(0), dim=-1)
        logits = out.logits.float().logsumexp(0) - float(np.log(len(image)))
        seconds = {**loaded.seconds, "infer": time.perf_counter() - started}
        return PictureResult(embedding.cpu().numpy(), logits.cpu().numpy(), loaded.picture, loaded.side, seconds)

    def _tensors(self, result: PictureResult) -> dict[str, NDArray[np.float32]]:
        """The embedding, or that of each attribute under its name."""
        if not self._plan.attributes:
            return {"embedding": result.embedding}
        rows = zip(self._plan.attributes, result.embedding, strict=True)
        return {name: np.ascontiguousarray(row) for name, row in rows}

    def write(self, item: Item, result: PictureResult, folder: Path) -> Written:
        """Writes the embedding (safetensors) and, for a classifier, a JSON of the most likely classes.

        With attributes, the embedding of each stands under its name.
        """
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{item.item_id}.safetensors"]
        save_file(self._tensors(result), files[0], metadata={"item": item.item_id})
        seconds = {name: round(value, 4) for name, value in result.seconds.items()}
        summary: dict[str, Any] = {"channels": int(result.embedding.shape[-1]), "seconds": seconds}
        if self._plan.classes:
            order = np.argsort(-result.logits, kind="stable")[:_TOLD]
            likely = {self._plan.classes[place]: round(float(np.exp(result.logits[place])), 6) for place in order}
            summary |= {"class": next(iter(likely)), "probabilities": likely}
            files.append(folder / f"{item.item_id}.json")
            files[-1].write_text(json.dumps({"item": item.item_id, **summary}, indent=2) + "\n")
        return Written(tuple(files), summary)
