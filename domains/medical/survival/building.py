"""From settings and a plan to a network."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from domains.medical.survival.networks.cmta import TranslationNetwork
from domains.medical.survival.networks.contract import SurvivalNetwork
from domains.medical.survival.networks.genomics import FeatureScaling, GenomicNetwork
from domains.medical.survival.networks.heads import DiscreteHead, ProportionalHead
from domains.medical.survival.networks.slides import SlideNetwork
from domains.medical.survival.plan import Plan
from domains.medical.survival.settings import CmtaModel, CoxLoss, GenomicSettings, LossSettings, ModelSettings, SnnModel

__all__ = ["Scale", "build_network"]

Scale = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Centre and scale of the features, each `(F,)`."""


def build_network(
    model: ModelSettings, loss: LossSettings, genomics: GenomicSettings, plan: Plan, scale: Scale | None
) -> SurvivalNetwork:
    """A fresh network.

    Args:
        model: Which.
        loss: Decides between a hazard for each interval and one relative hazard over a baseline.
        genomics: How features are clipped.
        plan: Sizes.
        scale: What features are scaled by; None where weights, which hold it, are loaded afterwards.
    """
    count = plan.intervals.count
    head = ProportionalHead(plan.baseline) if isinstance(loss, CoxLoss) else DiscreteHead(count, plan.baseline)
    scaling = FeatureScaling.blank(len(plan.features), clip=genomics.clip)
    if scale is not None:
        scaling = FeatureScaling(*(torch.from_numpy(part) for part in scale), clip=genomics.clip)
    if isinstance(model, SnnModel):
        return GenomicNetwork(len(plan.features), head, widths=model.widths, dropout=model.dropout, scaling=scaling)
    if plan.bag_features is None:
        raise RuntimeError(f"the plan of a {model.name} network knows no width of instances")
    if isinstance(model, CmtaModel):
        return TranslationNetwork(
            list(plan.groups.values()),
            plan.bag_features,
            head,
            dim=model.dim,
            bag_widths=(*model.bag_widths, model.dim),
            group_widths=(*model.group_widths, model.dim),
            fusion=model.fusion,
            dropout=model.dropout,
            scaling=scaling,
        )
    return SlideNetwork(
        plan.bag_features, head, aggregator=model.aggregator, hidden=model.hidden, dropout=model.dropout
    )
