"""The sections that a re-identification workflow adds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domains.reid.settings import PictureWorkflow
from pipelines.config.section import Section

__all__ = ["RerankSettings", "RetrievalJudgeSettings", "RetrievalWorkflow", "SamplingSettings"]


class SamplingSettings(Section):
    """Batches of P identities with K pictures each; P follows from `train.batch_size`."""

    balanced: bool = True
    """False shuffles pictures instead; a loss that compares embeddings then finds few partners."""
    images: int = Field(default=4, ge=2)
    """K, pictures of an identity in a batch."""
    cameras: bool = False
    """Whether the pictures of an identity are spread over its cameras."""
    repeat: bool = False
    """What too few pictures or identities get: pictures drawn more than once, and fewer identities in a batch.
    Without it they are an error."""


class RerankSettings(Section):
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017): two pictures are alike when their neighbours are the same."""

    k1: int = Field(default=20, ge=1)
    """Neighbours that are looked at."""
    k2: int = Field(default=6, ge=1)
    """Neighbours whose neighbourhoods are averaged; 1 averages nothing."""
    weight: float = Field(default=0.3, ge=0, le=1)
    """Share of the original distance in the final one."""
    memory_gigabytes: float = Field(default=8.0, gt=0)
    """What it may take; the most it can take is worked out beforehand, and more is refused."""


class RetrievalJudgeSettings(Section):
    """Who asks, who is searched, and what is left out."""

    protocol: Literal["auto", "cameras", "each", "one_each"] = "auto"
    """`auto` takes the roles that the data give, else `each`. `cameras`: pictures of some cameras ask for pictures of
    others. `each`: each picture asks for all others, but for those of its own identity and camera. `one_each`
    (VehicleID): in each of some rounds one picture of each identity is drawn to be searched, and all others ask."""
    rounds: int = Field(default=10, ge=1, le=1000)
    """Rounds of `one_each`; ten are usual."""
    rounds_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the draws of `one_each`."""
    rerank: RerankSettings | None = None
    """Judge the re-ranked gallery too, under `map_reranked` and `cmc_1_reranked`; null does not. All queries of a part
    are re-ranked together, so it says what a set can come to, not what a single search does."""
    query_cameras: tuple[str, ...] = ()
    """Cameras that ask, for `cameras`."""
    gallery_cameras: tuple[str, ...] = ()
    """Cameras that are searched, for `cameras`."""
    similarity: Literal["cosine", "euclidean"] = "cosine"
    """How embeddings are compared."""
    ranked_lists: int = Field(default=6, ge=0, le=50)
    """Queries whose ranked lists are drawn, the worst first."""

    @model_validator(mode="after")
    def _cameras_are_named(self) -> Self:
        given, wanted = (self.query_cameras, self.gallery_cameras), self.protocol == "cameras"
        if wanted != any(given) or wanted != all(given):
            raise ValueError("protocol cameras takes query_cameras and gallery_cameras, and they take protocol cameras")
        if set(self.query_cameras) & set(self.gallery_cameras):
            raise ValueError("a camera is in query_cameras and in gallery_cameras; use protocol each for that")
        return self

    @model_validator(mode="after")
    def _reranked_by_angles(self) -> Self:
        if self.rerank is not None and self.similarity != "cosine":
            raise ValueError("rerank compares by angles: set similarity to cosine, or leave rerank out")
        return self


class RetrievalWorkflow(PictureWorkflow):
    """A re-identification workflow."""

    sampling: SamplingSettings = SamplingSettings()
    """How batches are composed."""
    judge: RetrievalJudgeSettings = RetrievalJudgeSettings()
    """Who asks and who is searched."""
