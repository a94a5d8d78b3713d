"""From features to embeddings and identities: neck, classifier, and what is learned of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.reid.losses import CentreLoss, LearnedWeights, MarginClassifier
from domains.reid.models.necks import CameraNeck, make_neck

__all__ = ["Branch", "Embedded", "Embedder", "Head"]


class Embedded(NamedTuple):
    """What a network says of images.

    Attributes:
        embedding: `(B, D)` of length 1; with attributes `(B, A, D)`.
        logits: `(B, I)`, log-probabilities of the identities (or classes) seen in training.
    """

    embedding: Tensor
    logits: Tensor


class Branch(NamedTuple):
    """What a branch gives in training.

    Attributes:
        before: Feature before the neck `(B, C)`.
        after: Feature after the neck `(B, C)`.
        logits: `(B, I)`.
    """

    before: Tensor
    after: Tensor
    logits: Tensor


class Head(nn.Module):
    """A neck and a classifier (BNNeck, Luo et al., CVPRW 2019): distances are learned before it, identities after it.

    Args:
        dim: Channels of a feature.
        identities: Number of identities.
        neck: Whether a batch norm without shift stands before the classifier.
        cameras: Cameras whose statistics that batch norm keeps apart; 0 for one statistic of all.
        margin: Angular margin of the classifier; None for a linear one.
        scale: Factor of the cosines, with a margin.
        dropout: Of the feature before the classifier.
    """

    def __init__(
        self,
        dim: int,
        identities: int,
        *,
        neck: bool = True,
        cameras: int = 0,
        margin: float | None = None,
        scale: float = 30.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.neck = make_neck(dim, cameras) if neck else None
        self.dropout = nn.Dropout(dropout)
        self.classifier: nn.Module
        if margin is None:
            self.classifier = nn.Linear(dim, identities, bias=not neck)
            nn.init.normal_(self.classifier.weight, std=0.001 if neck else 0.01)
        else:
            self.classifier = MarginClassifier(dim, identities, margin=margin, scale=scale)

    def forward(
        self, feature: Tensor, labels: Tensor | None = None, camera: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Feature `(B, C)` → the feature after the neck `(B, C)` and logits `(B, I)`."""
        if isinstance(self.neck, CameraNeck):
            after = self.neck(feature, camera)
        else:
            after = feature if self.neck is None else self.neck(feature)
        dropped = self.dropout(after)
        if isinstance(self.classifier, MarginClassifier):
            return after, self.classifier(dropped, labels)
        return after, self.classifier(dropped)


class Embedder(nn.Module):
    """A backbone with a head for each of its branches.

    The `pair` branch of DCAL shares the head of `global`, and counts in training alone.

    Args:
        backbone: `(image, side)` → branch → feature `(B, C)`.
        dim: Channels of a feature.
        identities: Number of identities seen in training.
        branches: Branches of the backbone at inference, the first of which is `global`.
        pairs: Whether training has a `pair` branch too.
        neck: See `Head`.
        cameras: See `Head`; `side` is then the number of the camera.
        margin: See `Head`.
        scale: See `Head`.
        dropout: See `Head`.
        served: Which feature is the embedding: `before` or `after` the neck.
        centres: Whether there is a centre for each identity (`centre_loss`).
    """

    def __init__(
        self,
        backbone: nn.Module,
        dim: int,
        identities: int,
        *,
        branches: Sequence[str] = ("global",),
        pairs: bool = False,
        neck: bool = True,
        cameras: int = 0,
        margin: float | None = None,
        scale: float = 30.0,
        dropout: float = 0.0,
        served: Literal["before", "after"] = "after",
        centres: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                name: Head(dim, identities, neck=neck, cameras=cameras, margin=margin, scale=scale, dropout=dropout)
                for name in branches
            }
        )
        self.served = served
        losses = len(branches) + pairs
        self.weights = LearnedWeights(losses) if losses > 1 else None
        self.centre_loss = CentreLoss(dim, identities) if centres else None

    def forward(
        self, image: Tensor, side: Tensor | None = None, labels: Tensor | None = None
    ) -> Embedded | dict[str, Branch]:
        """`(B, 3, H, W)` → embeddings and logits; in training a `Branch` for each branch."""
        features = self.backbone(image, side)
        if self.training:
            found = {}
            for name, feature in features.items():
                feature = feature.float()
                after, logits = self.heads["global" if name == "pair" else name](feature, labels, side)
                found[name] = Branch(feature, after, logits)
            return found
        parts, probabilities = [], []
        for name, head in self.heads.items():
            before = features[name].float()
            after, logits = head(before, camera=side)
            parts.append(before if self.served == "before" else after)
            probabilities.append(logits.float().softmax(1))
        embedding = functional.normalize(torch.cat(parts, 1))
        # DCAL adds the probabilities of its branches; of one branch this is the softmax itself.
        mean = torch.stack(probabilities).mean(0)
        return Embedded(embedding, mean.clamp_min(1e-12).log())
