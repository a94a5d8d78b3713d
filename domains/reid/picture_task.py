"""What re-identification and fine-grained classification share as tasks."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from domains.reid.images import ImageInput
from domains.reid.plan import Plan, identity_names
from domains.reid.settings import CnnSettings, PictureWorkflow
from pipelines.cases import Case
from pipelines.errors import DataError
from pipelines.pictures import read_picture
from pipelines.task import Item, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.reid.predictor import PicturePredictor
    from domains.reid.training.batches import BalancedOrder
    from domains.reid.training.samples import Targets

__all__ = ["SERVED", "PictureTask"]

SERVED = ("model", "head", "loss", "input", "infer")
"""Sections that the model folder holds."""


class PictureTask(Task):
    """Embeds pictures and classifies what they show.

    Args:
        config: The workflow.
    """

    Config: ClassVar[type[WorkflowConfig]] = PictureWorkflow
    names_classes: ClassVar[bool]
    """Whether the names of identities are kept in the model folder."""
    served: ClassVar[tuple[str, ...]] = SERVED
    """Sections that the model folder holds."""
    config: PictureWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{self.name} takes a {self.Config.__name__}, got {type(config).__name__}")
        super().__init__(config)
        self._served = cast("PictureWorkflow", config)
        self._plan: Plan | None = None
        self._from_folder = False

    @property
    def plan(self) -> Plan:
        """What the training part says. Raises `RuntimeError` before `fit`."""
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan

    @property
    def given(self) -> ImageInput:
        """How a picture becomes the network's input."""
        settings = self._served.input
        return ImageInput(settings.size, settings.fit, settings.statistics)

    def check_case(self, case: Case) -> dict[str, Any]:
        """Height and width. Raises `CaseError` when the picture cannot be read."""
        height, width = read_picture(case.paths["image"], case.case_id).shape[:2]
        return {"height": height, "width": width}

    def fit(self, training: Sequence[Case]) -> None:
        """Counts identities, cameras and views of the training part."""
        model = self.config.model
        cameras, views = (False, False) if isinstance(model, CnnSettings) else (model.cameras, model.views)
        cameras = cameras or self.config.head.cameras
        plan = Plan.of(training, named=self.names_classes, cameras=cameras, views=views)
        if plan.identities < 2:
            raise DataError(f"the training part shows {plan.identities} identity; there is nothing to tell apart")
        for asked, known, what in ((cameras, plan.cameras, "camera"), (views, plan.views, "view")):
            if asked and not known:
                raise DataError(
                    f"the network is to be told the {what}, but no training case names a {what}",
                    hint=f"Write {{{what}}} in data.pattern, or give a column {what!r}.",
                )
        self._plan = plan

    def training_data(self, cases: Sequence[Case], *, seed: int) -> Any:
        """Changed pictures of these cases, in balanced batches where their embeddings are compared."""
        from domains.reid.images import resized_picture
        from domains.reid.training.augment import Changes
        from domains.reid.training.samples import BalancedSamples, PictureSamples
        from pipelines.casestore import CaseStore

        limit = int(self._served.input.cache_gigabytes * 2**30)
        store = CaseStore(partial(resized_picture, self.given), size=attrgetter("nbytes"), limit=limit)
        store.warm(cases)
        changes = Changes(self.given, self.config.augment if self.config.augment.enabled else None)
        targets, order = self.targets(cases), self.order(cases)
        if order is None:
            return PictureSamples(cases, store, changes, targets, seed=seed)
        size = self.config.train.batch_size
        return BalancedSamples(cases, store, changes, targets, seed=seed, order=order, batch_size=size)

    def order(self, cases: Sequence[Case]) -> BalancedOrder | None:
        """How batches are composed; None shuffles."""
        return None

    def targets(self, cases: Sequence[Case]) -> Targets:
        """Number of the identity of each case, and of its camera."""
        numbers = {name: number for number, name in enumerate(self.plan.classes or identity_names(cases))}
        found = {"label": {case.case_id: numbers[str(case.labels["identity"])] for case in cases}}
        if self.plan.sides:
            found["side"] = {case.case_id: self.plan.side(case.labels) for case in cases}
        return found

    def build_network(self) -> nn.Module:
        """A fresh network; with the weights that the workflow names, unless a model folder will give its own."""
        from domains.reid.building import build_network

        served = self._served
        return build_network(
            served.model,
            served.head,
            served.loss,
            served.input,
            identities=self.plan.identities,
            sides=self.plan.sides,
            pretrained=not self._from_folder,
        )

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss` and its parts."""
        from domains.reid.models.embedder import Embedder
        from domains.reid.training.objective import branch_losses

        branches = network(batch["image"], batch.get("side"), batch["label"])
        # Several processes wrap the network; what is learned of the losses is inside.
        bare = cast("Embedder", getattr(network, "module", network))
        return branch_losses(branches, batch["label"], self._served.loss, bare)

    def predictor(self, network: nn.Module, *, device: torch.device) -> PicturePredictor:
        """The network, ready to serve."""
        import torch

        from domains.reid.predictor import PicturePredictor
        from pipelines.training.machine import choose_precision

        infer = self._served.infer
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return PicturePredictor(
            network,
            self.given,
            self.plan,
            device=device,
            precision=precision[choose_precision(infer.precision, device.type)],
            mirror=infer.mirror,
        )

    def item(self, case: Case) -> Item:
        """The picture of a case, with its camera and view where they are known."""
        detail = {name: str(case.labels[name]) for name in ("camera", "view") if case.labels.get(name)}
        return Item(case.case_id, (case.paths["image"],), "picture", detail)

    def describe(self) -> dict[str, Any]:
        """Model, input and plan, as plain values; no path, and for retrieval no name of an identity."""
        described = {name: getattr(self._served, name).model_dump(mode="json") for name in self.served}
        if described["model"]["name"] == "vit":
            described["model"]["weights"] = None
        plain: dict[str, Any] = json.loads(json.dumps({**described, "plan": self.plan.describe()}))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        fields = cls.Config.model_fields
        sections = {name: cls._validated(fields[name].annotation, description[name]) for name in cls.served}
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        task = cls(cls.Config.model_construct(task=cls.name, name="served", data=None, **sections))
        task._plan = Plan.from_description(description["plan"])
        task._from_folder = True
        return task

    @staticmethod
    def _validated(annotation: Any, value: Any) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(annotation).validate_python(value)

    def with_workflow(self, config: WorkflowConfig) -> Self:
        """This task's network and preprocessing, with the cases of another workflow."""
        other = type(self)(config)
        other._served, other._plan, other._from_folder = self._served, self._plan, True
        other.check_cases_fit()
        return other

    @abstractmethod
    def check_cases_fit(self) -> None:
        """Raises `ConfigurationError` when the cases of the workflow cannot be judged by this model."""

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `image` `(B, 3, H, W)` float32, `label` `(B,)` int64 (two of each), and `side` where it is told."""
        import torch

        labels = torch.arange(batch_size) // 2 % self.plan.identities
        batch: dict[str, Any] = {
            "image": torch.zeros(batch_size, 3, *self.given.size),
            "label": labels,
            "case_id": ["example"] * batch_size,
        }
        if self.plan.sides:
            batch["side"] = torch.zeros(batch_size, dtype=torch.int64)
        return batch
