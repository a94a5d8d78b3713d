"""A picture beside where the network looked."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn

from domains.reid.images import ImageInput
from domains.reid.models.embedder import Embedder
from domains.reid.models.looking import looked_at
from domains.reid.plan import Plan
from domains.reid.predictor import PictureResult
from pipelines.cases import Case
from pipelines.task import Figure

__all__ = ["draw_look"]


def draw_look(case: Case, result: PictureResult, network: nn.Module, given: ImageInput, plan: Plan) -> Figure:
    """The picture, and beside it the same picture darkened where the network did not look."""
    from PIL import Image

    best = int(np.argmax(result.logits))
    device = next(network.parameters()).device
    image = torch.from_numpy(given.normalise(result.picture))[None].to(device)
    side = torch.tensor([result.side], device=device) if plan.sides else None
    was_training = network.training
    network.eval()
    heeded = looked_at(cast("Embedder", network), image, best, side)
    network.train(was_training)
    shown = [result.picture]
    if heeded is not None:
        small = Image.fromarray((heeded.cpu().numpy() * 255).astype(np.uint8))
        light = np.asarray(small.resize(result.picture.shape[1::-1], Image.Resampling.BILINEAR), dtype=np.float32) / 255
        shown.append((result.picture * (0.25 + 0.75 * light[..., None])).astype(np.uint8))
    name = str(case.labels["identity"])
    right = "right" if plan.classes[best] == name else f"it shows {name}"
    caption = f"Taken for {plan.classes[best]} ({np.exp(result.logits[best]):.2f}): {right}; light is what counted."
    return Figure(f"look-{case.case_id}", np.concatenate(shown, 1), caption, case_id=case.case_id)
