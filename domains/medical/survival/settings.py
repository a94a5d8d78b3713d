"""The sections that a survival workflow adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domains.medical.survival.data_settings import PatientData
from domains.medical.survival.grouping import AssayGroups, GroupSettings
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "BagSettings",
    "CmtaModel",
    "CoxLoss",
    "CrossEntropyLoss",
    "GenomicSettings",
    "JudgeSettings",
    "LikelihoodLoss",
    "LossSettings",
    "ModelSettings",
    "SlideModel",
    "SnnModel",
    "SurvivalWorkflow",
]

Width = Annotated[int, Field(ge=1, le=65536)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


class GenomicSettings(Section):
    """What is done to features before the network sees them; all of it is measured on the training part."""

    scale: Literal["robust", "standard"] = "robust"
    """`robust` is median and quartiles, `standard` mean and standard deviation, which single cells can spoil."""
    clip: float | None = Field(default=3.0, gt=0)
    """Largest absolute value of a scaled feature; null does not clip."""
    groups: GroupSettings = AssayGroups()
    """Groups that become tokens of CMTA; other networks look at all features at once."""


class BagSettings(Section):
    """How bags of instances are used in training."""

    limit: int | None = Field(default=4096, ge=1)
    """Instances of a bag drawn at random for each training sample, to bound memory; null takes all. All are used when a
    patient is predicted."""
    cache_gigabytes: float = Field(default=2.0, ge=0)
    """Memory for bags of training patients; bags beyond it are read again each time they are drawn."""


class SnnModel(Section):
    """Genomics alone: self-normalising layers."""

    name: Literal["snn"] = "snn"
    """Network."""
    widths: tuple[Width, ...] = (256, 256)
    """Width of each layer; none is a linear model."""
    dropout: Dropout = 0.25
    """Probability of alpha dropout after each layer."""


class SlideModel(Section):
    """Slides alone: one of two networks of bags."""

    name: Literal["slides"]
    """Network."""
    aggregator: Literal["gated", "transmil"] = "gated"
    """`gated` attention (ABMIL) or `transmil`."""
    hidden: Width = 256
    """Width of an embedded instance."""
    dropout: Dropout = 0.25
    """Probability that an embedded unit is dropped."""


class CmtaModel(Section):
    """Genomics and slides: cross-modal translation and alignment."""

    name: Literal["cmta"]
    """Network."""
    dim: int = Field(default=256, ge=8, le=8192, multiple_of=8)
    """Width of tokens."""
    bag_widths: tuple[Width, ...] = (256,)
    """Width of each layer that embeds an instance, before one of width `dim`."""
    group_widths: tuple[Width, ...] = (1024,)
    """Width of each layer that embeds a genomic group, before one of width `dim`."""
    fusion: Literal["concat", "bilinear"] = "concat"
    """How the two modalities are made one."""
    dropout: Dropout = 0.25
    """Probability that an embedded unit is dropped."""


ModelSettings = Annotated[SnnModel | SlideModel | CmtaModel, Field(discriminator="name")]


class _Loss(Section):
    alignment: float = Field(default=1.0, ge=0)
    """Weight of the alignment of CMTA (there 1 for BLCA, 1e-4 for LUAD); other networks have none."""


class LikelihoodLoss(_Loss):
    """Likelihood of the interval that the event fell in (discrete time), as in MCAT and CMTA."""

    name: Literal["nll"] = "nll"
    """Loss."""
    alpha: float = Field(default=0.0, ge=0, le=1)
    """Share of the loss in which patients who were censored do not count."""


class CrossEntropyLoss(_Loss):
    """Cross-entropy of survival at the end of the patient's interval."""

    name: Literal["ce"]
    """Loss."""
    alpha: float = Field(default=0.0, ge=0, le=1)
    """Weight of the likelihood of events beside it."""


class CoxLoss(_Loss):
    """Cox's partial likelihood within each batch; make batches large. A baseline is learned beside it."""

    name: Literal["cox"]
    """Loss."""
    ties: Literal["efron", "breslow"] = "efron"
    """How events at the same time are treated."""


LossSettings = Annotated[LikelihoodLoss | CrossEntropyLoss | CoxLoss, Field(discriminator="name")]


class JudgeSettings(Section):
    """How predictions are judged."""

    times: tuple[Annotated[float, Field(gt=0)], ...] = (12.0, 24.0, 36.0)
    """Times at which the AUC is told, in the unit of the data; calibration is drawn for the one in the middle."""
    groups: int = Field(default=2, ge=2, le=5)
    """Groups of risk, of equal size, in the figure of survival."""


class SurvivalWorkflow(WorkflowConfig):
    """A survival workflow."""

    data: PatientData
    """Where the patients come from."""
    genomics: GenomicSettings = GenomicSettings()
    """What is done to features before the network sees them."""
    bags: BagSettings = BagSettings()
    """How bags of instances are used in training."""
    intervals: int = Field(default=4, ge=1, le=200)
    """Intervals that time is cut into, at quantiles of the times of events in the training part."""
    model: ModelSettings = SnnModel()
    """The network, by name."""
    loss: LossSettings = LikelihoodLoss()
    """What is minimised, by name."""
    judge: JudgeSettings = JudgeSettings()
    """How predictions are judged."""

    @model_validator(mode="after")
    def _modalities_are_there(self) -> Self:
        if self.model.name != "snn" and self.data.bags is None:
            raise ValueError(f"model {self.model.name} looks at slides: say where their bags are (data.bags)")
        if self.model.name != "slides" and not (self.data.features or self.data.covariates):
            raise ValueError(f"model {self.model.name} looks at genomics: name its columns (data.features)")
        return self
