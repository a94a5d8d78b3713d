"""The one contract a domain fulfils.

A `Task` says what a domain reads, its network, its loss and how a case is judged; its `Predictor` is one trained model
that reads, infers and writes items. All else (training, evaluation, tracking, batch inference, reports) is shared
and knows a domain only through these two classes.

    read_cases → fit (training cases only) → training_data → build_network → loss_step
    predictor.read → predictor.infer → judge · draw · predictor.write
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from pipelines.cases import Case, CaseTable
    from pipelines.evaluation.metric import Metric
    from pipelines.workflow import WorkflowConfig

__all__ = [
    "ArrangedData",
    "Figure",
    "FinishedItem",
    "Item",
    "Joiner",
    "MetricRow",
    "Observation",
    "Predictor",
    "SampleKey",
    "Task",
    "TaskEntry",
    "TrainingData",
    "Written",
    "find_task",
    "register_task",
    "registered_tasks",
]

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What names one training sample: its randomness derives from `(seed, epoch, index)` and nothing else."""

    epoch: int
    index: int


class TrainingData(Protocol):
    """Training samples. `data[SampleKey(epoch, index)]` is a pure function of the seed, the epoch and the index."""

    def __len__(self) -> int:
        """Samples of one epoch."""

    def __getitem__(self, key: SampleKey) -> Any:
        """One sample, on the CPU."""

    def collate(self, samples: Sequence[Any]) -> Any:
        """A batch from samples: a mapping of names to tensors `(B, ...)` and lists."""


@runtime_checkable
class ArrangedData(Protocol):
    """Training samples whose batches are composed, not drawn: so many identities with so many images each, say.

    `TrainingData` that has these two methods decides the order of each pass; other data is shuffled.
    """

    def pass_length(self, batch_size: int) -> int:
        """Samples of one pass, the same for every pass: a multiple of `batch_size` where batches must stay whole."""

    def arrange(self, rng: np.random.Generator, batch_size: int) -> Sequence[int]:
        """The indices of one pass, `pass_length(batch_size)` of them, batch after batch. A pure function of `rng`.

        A sample is a function of its pass and its index: an image that is to be drawn twice, differently, needs two.
        """


Observation = Mapping[str, Any]
"""What judging a set needs of one case: numbers, text and small arrays by name."""


@dataclass(frozen=True)
class Item:
    """One thing to predict: a file, or a folder of files that belong together.

    Attributes:
        item_id: Unique in a batch, safe as a file name, and free of patient names.
        paths: The files it is read from, in order.
        kind: How it is read, for example `nifti` or `dicom`.
        detail: What else reading needs (a series UID, say).
        problem: Why it cannot be read, when that was already seen while looking for items.
    """

    item_id: str
    paths: tuple[Path, ...]
    kind: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Written:
    """What one item left behind: its files, and a summary for the ledger (plain JSON values)."""

    files: tuple[Path, ...]
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedItem:
    """An item of a batch whose result stands.

    Attributes:
        item_id: Its name in the batch.
        source: Where it was found, relative to the input that led to it.
        folder: Where its result lies.
    """

    item_id: str
    source: str
    folder: Path


@dataclass(frozen=True)
class MetricRow:
    """One judgement: a case, a class, a metric.

    Attributes:
        value: NaN where the metric is not defined for this case (and `note` says why).
        note: `both empty`, `missed`, `invented`, `failed: …`, or empty.
    """

    case_id: str
    class_name: str
    metric: str
    value: float
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture for the report, and the numbers behind it.

    Attributes:
        name: File name without an ending.
        image: uint8 `(height, width, 3)`.
        caption: One sentence.
        data: The table behind the picture, where it has one.
        case_id: The case it shows, if it shows one.
    """

    name: str
    image: NDArray[np.uint8]
    caption: str
    data: pd.DataFrame | None = None
    case_id: str = ""


class Predictor(ABC, Generic[Loaded, Result]):
    """One trained model, ready to serve. `read` and `write` run in threads beside `infer`."""

    @abstractmethod
    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The items in files, folders and globs; unreadable ones are items with a `problem`."""

    @abstractmethod
    def read(self, item: Item) -> Loaded:
        """Reads and prepares one item on the CPU. Raises `CaseError`."""

    @abstractmethod
    def infer(self, loaded: Loaded) -> Result:
        """Runs the network on the device and decides, on the grid of the source."""

    @abstractmethod
    def write(self, item: Item, result: Result, folder: Path) -> Written:
        """Writes all files of one item into `folder` (a staging folder; the caller moves them)."""


class Task(ABC):
    """What a domain fulfils. Built from a validated workflow; holds no network."""

    name: ClassVar[str]
    Config: ClassVar[type[WorkflowConfig]]
    metrics: ClassVar[Mapping[str, Metric]] = {}
    """What the metrics mean: which way is better, and what a missing prediction costs."""
    selection_metric: ClassVar[str]
    """The metric whose mean over classes and validation cases chooses the best checkpoint; higher is better.
    One that `pooled` gives may be named too."""
    pools_folds: ClassVar[bool] = True
    """Whether what is observed can be compared between models, so that a cross-validation may pool its folds
    (probabilities can be, risks and embeddings cannot)."""
    ranking_metric: ClassVar[str] = ""
    """The metric of single cases that says which ones are the worst; empty where it is the selection metric."""

    def __init__(self, config: WorkflowConfig) -> None:
        self.config = config

    @abstractmethod
    def read_cases(self) -> CaseTable:
        """The cases that `config.data` names. Raises `DataError`."""

    @abstractmethod
    def check_case(self, case: Case) -> dict[str, Any]:
        """Facts of one case (shape, spacing, classes …) as plain values. Raises `CaseError` when it cannot be used."""

    @abstractmethod
    def fit(self, training: Sequence[Case]) -> None:
        """Learns what preprocessing needs from the training part only; afterwards `describe()` holds it."""

    @abstractmethod
    def training_data(self, cases: Sequence[Case], *, seed: int) -> TrainingData:
        """Samples of these cases."""

    @abstractmethod
    def build_network(self) -> nn.Module:
        """A fresh network, initialised from torch's current seed."""

    @abstractmethod
    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Scalars of one batch; `loss` is the one that is minimised."""

    @abstractmethod
    def predictor(self, network: nn.Module, *, device: torch.device) -> Predictor[Any, Any]:
        """The network, ready to serve, with this workflow's inference settings."""

    @abstractmethod
    def item(self, case: Case) -> Item:
        """The input side of a case."""

    @abstractmethod
    def judge(self, case: Case, result: Any) -> list[MetricRow]:
        """All judgements of one case; `result=None` (no prediction) gives the worst value of each metric.

        Every case gives the same classes and metrics: one that lacks a row counts as failed there. What is known of a
        class of cases, and not of each case in every class, belongs into `pooled`.
        """

    @abstractmethod
    def draw(self, case: Case, result: Any) -> list[Figure]:
        """Pictures of one judged case."""

    def observe(self, case: Case, result: Any) -> Observation | None:
        """What judging the whole set needs of this case, where single cases do not say it all (AUC, retrieval).

        Numbers and text are kept in the run's table of predictions; arrays (an embedding) are not kept.
        """
        return None

    def reference(self, cases: Sequence[Case]) -> Sequence[Case]:
        """Those of the cases that are walked when judgements are summed up; a gallery, for one, only takes part."""
        return cases

    def judge_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[MetricRow]:
        """Judgements of single cases that need the others (the rank of a query in a gallery).

        Args:
            cases: All cases of the part.
            observed: Case id → observation; a case whose prediction failed has none, and takes the worst values.
        """
        return []

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """`(class, metric)` → a number that only the set as a whole has (AUC, concordance); NaN where undefined.

        It is called again on bootstrap resamples of the groups, in which cases stand more than once: it must be quick,
        and say nothing of single cases. Under the class `mean` it may give a mean of its own (macro, micro); else the
        mean over classes is taken. A case without an observation counts as predicted as badly as can be.
        """
        return {}

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """Pictures of the whole part: curves, a confusion matrix, survival by risk."""
        return []

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What `model.yaml` must hold to serve the network again: plain values, no paths."""

    @classmethod
    @abstractmethod
    def from_description(cls, description: Mapping[str, Any]) -> Task:
        """The inverse of `describe`: a task that can build the network and its predictor, but reads no cases."""

    @abstractmethod
    def with_workflow(self, config: WorkflowConfig) -> Task:
        """A described task that also reads and judges the cases of `config`; network and preprocessing stay its own.

        Raises:
            ConfigurationError: The cases cannot be judged by this model (other classes, say).
        """

    @abstractmethod
    def example_batch(self, batch_size: int) -> Any:
        """A batch of zeros with the shapes of training, for planning and model signatures."""


@dataclass(frozen=True)
class TaskEntry:
    """Where a task lives; it is imported when it is asked for.

    Attributes:
        name: As workflows and model folders name it.
        target: Its class, as `module:name`.
        summary: What it is for.
        join: A `Joiner`, as `module:name`, where results of many items also belong into one table. It should import
            little: it runs in the process that leads a batch, where no model is.
        tables: Whether its items are rows of tables: a table is then what is predicted, not a manifest of files.
        columns: What a manifest may tell of an item beside its path and its name; it stands in `Item.detail`.
    """

    name: str
    target: str
    summary: str
    join: str = ""
    tables: bool = False
    columns: tuple[str, ...] = ()

    def load(self) -> type[Task]:
        """Imports the task's class."""
        task: type[Task] = _imported(self.target)
        return task

    def load_joiner(self) -> Joiner | None:
        """Imports what joins results of many items; None where nothing does."""
        joiner: Joiner | None = _imported(self.join) if self.join else None
        return joiner


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


_TASKS: dict[str, TaskEntry] = {}


def register_task(entry: TaskEntry) -> None:
    """Makes a task known by name. Registering a name twice is an error."""
    if entry.name in _TASKS and _TASKS[entry.name] != entry:
        raise ValueError(f"task {entry.name!r} is registered already, as {_TASKS[entry.name].target}")
    _TASKS[entry.name] = entry


def registered_tasks() -> tuple[TaskEntry, ...]:
    """All tasks, by name."""
    return tuple(_TASKS[name] for name in sorted(_TASKS))


def find_task(name: str) -> TaskEntry:
    """The task of that name. Raises `ConfigurationError` that lists the others."""
    try:
        return _TASKS[name]
    except KeyError:
        known = ", ".join(sorted(_TASKS)) or "none is registered"
        raise ConfigurationError(f"unknown task {name!r}; use one of: {known}") from None


Joiner = Callable[[Sequence[FinishedItem], Path, str], None]
"""Writes tables of many results into a folder: `join(results, folder, model_digest)`. It may write nothing."""

PredictorLoader = Callable[[], Predictor[Any, Any]]
