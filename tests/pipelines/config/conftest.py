"""A task of its own for the tests of configuration, with every kind of setting that a domain uses."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StringConstraints, model_validator

import pipelines.task
from pipelines.config import FilePath, ResolvedWorkflow, Section, load_workflow, union_of, variant
from pipelines.errors import ConfigurationError
from pipelines.task import TaskEntry


class Full(Section):
    """Attention over all tokens."""

    name: Literal["full"] = "full"
    """Mechanism."""
    heads: int = Field(4, gt=0, le=64)
    """Heads."""
    scale: float | None = None
    """Scale of the scores."""


class Window(Section):
    """Attention in windows."""

    name: Literal["window"] = "window"
    """Mechanism."""
    heads: Literal[1, 2, 4] = 1
    """Heads."""
    window: tuple[int, ...] = (7, 7)
    """Extent of a window, in tokens."""
    shift: bool = True
    """Whether every second layer is shifted."""


Agent = variant("agent", {"agents": (Annotated[int, Field(ge=1)], 49, "Agent tokens.")})


class Part(Enum):
    TRAIN = "train"
    TEST = "test"


class Level(Section):
    channels: int = Field(ge=1)
    """Channels."""
    attention: Annotated[Full | Window, Field(discriminator="name")] | None = None
    """Attention at this level."""


class Train(Section):
    lr: float = Field(1e-3, gt=0)
    """Learning rate at the top of the schedule."""
    epochs: int = Field(10, ge=1, le=1000)
    """Epochs."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the forward pass."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay."""
    deterministic: bool = True
    """The same bits each time."""
    betas: tuple[Annotated[float, Field(ge=0)], float] = (0.9, 0.999)
    """Decays."""

    @model_validator(mode="after")
    def _reachable(self) -> Train:
        if self.epochs == 13:
            raise ValueError("13 epochs with any lr are refused here; use 12 or 14")
        return self


class Model(Section):
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Channels of each level."""
    attention: union_of([Full, Window, Agent]) = Full()  # type: ignore[valid-type]
    """Attention at the bottleneck."""
    levels: list[Level] = Field(default_factory=list)
    """Levels."""
    depth: int | Literal["auto"] | list[int] = "auto"
    """Blocks of a level."""


class Data(Section):
    path: FilePath
    """Folder of the data set."""
    table: FilePath | None = None
    """Table of cases."""
    extra: list[FilePath] = Field(default_factory=list)
    """More files."""
    classes: dict[int, str] = Field(default_factory=dict)
    """Label value → class name."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags."""
    part: Part = Part.TRAIN
    """Part."""
    note: str = ""
    """Anything."""


class StandIn(Section):
    """A workflow of the stand-in task."""

    task: str
    """Task."""
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")]
    """Name of the experiment."""
    seed: int = Field(0, ge=0)
    """Seed."""
    data: Data
    """Data."""
    model: Model
    """Network."""
    train: Train = Train()
    """Training."""


class _Task:
    Config = StandIn


class Workspace:
    """A folder to write workflow files in and load them from."""

    valid = "task: test/stand-in\nname: x\ndata:\n  path: scans\nmodel:\n  channels: [16, 32]\n"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def load(
        self,
        text: str | bytes,
        *overrides: str,
        env: Mapping[str, str] | None = None,
        name: str = "w.yaml",
        **files: str,
    ) -> ResolvedWorkflow:
        for other, content in files.items():
            self.write(f"{other}.yaml", content)
        return load_workflow(self.write(name, text), overrides, env=env or {}, cwd=self.folder)

    def problems(self, text: str | bytes, *overrides: str, **more: Any) -> list[str]:
        """The problems of a workflow that is wrong, one line each."""
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, *overrides, **more)
        assert caught.value.exit_code == 2
        text = str(caught.value)
        assert "Input should" not in text
        assert "pydantic" not in text
        return text.splitlines()


@pytest.fixture(scope="module", autouse=True)
def stand_in_task() -> Iterator[type[StandIn]]:
    """Only the stand-in task is registered, while a test of this folder runs."""
    module = types.ModuleType("stand_in_task")
    module.Task = _Task  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "stand_in_task", module)
        entry = TaskEntry("test/stand-in", "stand_in_task:Task", "A stand-in.")
        patch.setattr(pipelines.task, "_TASKS", {entry.name: entry})
        yield StandIn


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One folder for all examples of a property."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def workspace_factory() -> Callable[[Path], Workspace]:
    return Workspace
