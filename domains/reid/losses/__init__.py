"""Losses of identity and of distance between embeddings: tensors in, scalars out."""

from domains.reid.losses.classification import MarginClassifier, identity_loss
from domains.reid.losses.metric import CentreLoss, attribute_triplet_loss, batch_hard_triplet_loss, circle_loss
from domains.reid.losses.weighting import LearnedWeights

__all__ = [
    "CentreLoss",
    "LearnedWeights",
    "MarginClassifier",
    "attribute_triplet_loss",
    "batch_hard_triplet_loss",
    "circle_loss",
    "identity_loss",
]
