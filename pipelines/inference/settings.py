"""How a batch is worked through."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pipelines.config.section import Section

__all__ = ["BatchSettings"]


class BatchSettings(Section):
    """How a batch is worked through. Nothing here changes a result, except `changes`."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the network runs: auto (a GPU when there is one), cpu, cuda, or one GPU such as cuda:1."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Worker processes, each with the model; null is one for each device."""
    prefetch: int = Field(default=1, ge=0, le=16)
    """Items that a worker reads ahead while it computes; each costs the memory of one item. 0 handles one item at a
    time, without any overlap."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds that one item may take to be read, computed and written; null is no limit."""
    retries: int = Field(default=1, ge=0, le=100)
    """Further attempts after a crash, a timeout, an input/output error or a lack of memory."""
    max_failures: int | None = Field(default=None, ge=1)
    """Stop after so many failed items; null goes on to the end."""
    executor: Literal["local", "ray"] = "local"
    """Where the workers run: on this machine, or on a Ray cluster that shares the file system."""
    ray_address: str | None = None
    """Address of the Ray cluster; null joins the one that the environment names, or starts one on this machine."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the model's description → other values, for example `infer.overlap`."""
