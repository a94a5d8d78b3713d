"""Actions in RGB clips, as the shared pipelines see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from domains.video.action.judging import METRICS
from domains.video.clip_action.cases import read_video_cases
from domains.video.clip_action.plan import ClipPlan
from domains.video.clip_action.poses import PoseReader, joints_of, names_of
from domains.video.clip_action.settings import ClipWorkflow, PoseSettings
from domains.video.decoding import open_video
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case, CaseTable
from pipelines.errors import ConfigurationError, DataError
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Observation, Task, TrainingData
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.video.clip_action.clips import FrameStore
    from domains.video.clip_action.features import FeatureStore
    from domains.video.clip_action.network import ClipModel
    from domains.video.clip_action.pose_store import PoseStore
    from domains.video.clip_action.predictor import ClipPrediction, ClipPredictor
    from domains.video.clip_action.preparation import Preparation

__all__ = ["ClipActionTask"]

_SERVED = ("model", "clip", "input", "pose", "loss", "infer")
"""Sections that the model folder holds."""


class ClipActionTask(Task):
    """Tells actions apart in videos.

    Args:
        config: The workflow.
    """

    name: ClassVar[str] = "video/clip-action"
    Config: ClassVar[type[WorkflowConfig]] = ClipWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "likelihood"
    ranking_metric: ClassVar[str] = "probability"
    config: ClipWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, ClipWorkflow):
            raise TypeError(f"{self.name} takes a ClipWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._served = config
        self._plan: ClipPlan | None = None
        self._from_folder = False
        self._classes: tuple[str, ...] = ()
        self._frames: FrameStore | None = None
        self._features: FeatureStore | None = None
        self._joints: JointSet | None = None

    def read_cases(self) -> CaseTable:
        """The videos that `data` names. Raises `DataError`, and `ConfigurationError` for actions no model knows."""
        table = read_video_cases(self.config.data, self._pose if self.with_poses else None)
        if self.with_poses and self._plan is None:
            self._joints = joints_of(table, PoseReader(self._pose))
        self._classes = tuple(sorted({str(case.labels["action"]) for case in table}))
        if self._plan is not None and (unknown := sorted(set(self._classes) - set(self._plan.classes))):
            raise ConfigurationError(
                f"the model does not know {', '.join(unknown)}; it knows {', '.join(self._plan.classes)}",
                hint="Leave these videos out, or train on them.",
            )
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """Frames, length, size and action. Raises `CaseError` when the video cannot be read or is too short."""
        with open_video(case.paths["video"], case_id=case.case_id, backend="pyav") as video:
            info = video.info
        self.preparation.view_numbers(case.case_id, info)
        facts = {"frames": info.frames, "seconds": round(float(info.times[-1]), 3), "action": case.labels["action"]}
        if self.with_poses:
            track = self._pose_reader().of(case.case_id, case.paths["skeleton"], names_of(case), info)
            facts["joints_seen"] = round(track.seen, 3)
        return facts | {"height": info.height, "width": info.width, "codec": info.codec}

    def fit(self, training: Sequence[Case]) -> None:
        """Classes of the whole table, how many videos of each the training part has, and how long they are."""
        import numpy as np

        counts = dict.fromkeys(self._classes, 0)
        seconds = []
        for case in training:
            counts[str(case.labels["action"])] += 1
            with open_video(case.paths["video"], case_id=case.case_id, backend="pyav") as video:
                seconds.append(float(video.info.times[-1]))
        if missing := [name for name, count in counts.items() if not count]:
            raise DataError(
                f"the training part shows no {', '.join(missing)}",
                hint="Set split.stratify=action, use fewer folds, or leave these videos out.",
            )
        lengths = float(np.median(seconds)), max(seconds)
        self._plan = ClipPlan(self._classes, tuple(counts.values()), *lengths, self._joints)

    def training_data(self, cases: Sequence[Case], *, seed: int) -> TrainingData:
        """Clips of these videos, or features of them where the encoder is frozen."""
        from domains.video.clip_action.training import ClipData, FeatureData

        numbers = {name: number for number, name in enumerate(self._fitted().classes)}
        augment = self.config.augment if self.config.augment.enabled else None
        if not self._frozen:
            store = self._frame_store()
            store.warm(cases)
            return ClipData(cases, store, numbers, self.preparation, augment, seed=seed, poses=self._pose_store())
        from pipelines.training.machine import choose_device

        features = self._feature_store(self.build_network(), choose_device(self.config.train.device))
        flip = 0.0 if augment is None else augment.flip
        mix = self._served.clip.sampling == "uniform"
        return FeatureData(cases, features, numbers, flip=flip, mix_views=mix, seed=seed, poses=self._pose_store())

    def build_network(self) -> ClipModel:
        """A fresh network; with pretrained weights, unless a model folder will give its own."""
        from domains.video.clip_action.building import build_network

        persons, pretrained = self._served.pose.persons, not self._from_folder
        return build_network(self._served.model, self._fitted(), persons=persons, pretrained=pretrained)

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`, the cross-entropy."""
        import torch
        from torch.nn import functional

        given = {name: batch[name] for name in ("frames", "partners", "features", "pose") if name in batch}
        logits = network(**given).logits
        weight = None
        if self._served.loss.balance:
            counts = torch.tensor(self._fitted().training_videos, dtype=logits.dtype, device=logits.device)
            weight = counts.sum() / (counts * len(counts))
        smoothing = self._served.loss.label_smoothing
        return {"loss": functional.cross_entropy(logits, batch["label"], weight=weight, label_smoothing=smoothing)}

    def predictor(self, network: nn.Module, *, device: torch.device) -> ClipPredictor:
        """The network, ready to serve."""
        from domains.video.clip_action.network import ClipModel
        from domains.video.clip_action.predictor import ClipPredictor

        if not isinstance(network, ClipModel):
            raise TypeError(f"{type(network).__name__} is no network of clips")
        of_run = self.config.data is not None  # without cases, videos come once: nothing is kept
        return ClipPredictor(
            network,
            self._fitted(),
            self.preparation,
            self._served.infer,
            device=device,
            precision=self._precision(device.type),
            store=self._frame_store() if of_run else None,
            features=self._feature_store(network, device.type) if of_run and self._frozen else None,
            poses=self._pose_reader() if self.with_poses else None,
        )

    def item(self, case: Case) -> Item:
        """The video of a case, and its skeletons where poses are needed."""
        paths = [case.paths[role] for role in ("video", "skeleton") if role in case.paths]
        named = {"clip": str(case.labels["clip"])} if "clip" in case.labels else {}
        return Item(case.case_id, tuple(paths), "video", named)

    def judge(self, case: Case, result: ClipPrediction | None) -> list[MetricRow]:
        """Whether the action is the first guess, or among the first five, and its probability."""
        from domains.video.action.judging import judge_clip

        return judge_clip(case, result, self._fitted().classes)

    def observe(self, case: Case, result: ClipPrediction) -> Observation:
        """Truth, decision and probabilities, and how many of the video's clips are right by themselves."""
        from domains.video.action.judging import observe_clip

        return observe_clip(case, result, self._fitted().classes, parts=result.parts)

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """Accuracies over all videos alike and by class, of single clips, and the likelihood."""
        from domains.video.action.judging import judge_clips

        return judge_clips(cases, observed, self._all_classes())

    def draw(self, case: Case, result: ClipPrediction) -> list[Figure]:
        """Frames of the clip, and where and when the network looked: at places, or at joints."""
        from domains.video.clip_action.figures import draw_video

        return [draw_video(case, result, self._fitted().classes, self._fitted().joints)]

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """The confusion matrix, and strips of the videos that were judged worst."""
        from domains.video.action.figures import draw_confusion
        from domains.video.action.judging import confusion
        from domains.video.clip_action.figures import draw_worst

        classes = self._all_classes()
        if not observed:
            return []
        return [
            draw_confusion(confusion(cases, observed, classes), classes, failed=len(cases) - len(observed)),
            *draw_worst(cases, observed),
        ]

    def describe(self) -> dict[str, Any]:
        """The sections that serving needs, and the plan, as plain values; no path."""
        described = {name: getattr(self._served, name).model_dump(mode="json") for name in _SERVED}
        # Which joints the model knows stands in the plan; a folder belongs to a machine.
        described["pose"] |= {"folder": None, "joints": ""}
        plain: dict[str, Any] = json.loads(json.dumps({**described, "plan": self._fitted().describe()}))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ClipActionTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        from pydantic import TypeAdapter

        kinds: dict[str, Any] = {name: ClipWorkflow.model_fields[name].annotation for name in _SERVED}
        told = {name: kind for name, kind in kinds.items() if name in description}  # `pose` came later than others
        sections = {name: TypeAdapter(kind).validate_python(description[name]) for name, kind in told.items()}
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        task = cls(ClipWorkflow.model_construct(task=cls.name, name="served", data=None, **sections))
        task._plan = ClipPlan.from_description(description["plan"])
        task._from_folder = True
        return task

    def with_workflow(self, config: WorkflowConfig) -> ClipActionTask:
        """This task's network and clips, with the cases of another workflow."""
        other = ClipActionTask(config)
        other._served, other._plan, other._from_folder = self._served, self._fitted(), True
        return other

    @property
    def with_poses(self) -> bool:
        """Whether the network looks at poses."""
        return "pose" in self._served.model.streams

    @property
    def _pose(self) -> PoseSettings:
        """How the model takes poses, found where this workflow says."""
        folder = self._served.pose.folder if self.config.data is None else self.config.pose.folder
        return self._served.pose.model_copy(update={"folder": folder})

    def _pose_reader(self) -> PoseReader:
        return PoseReader(self._pose, self._joints if self._plan is None else self._plan.joints)

    def _pose_store(self) -> PoseStore | None:
        from domains.video.clip_action.pose_store import PoseStore

        return PoseStore(self._pose_reader(), self._frame_store(), self.preparation) if self.with_poses else None

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `frames` (and `partners`) uint8 `(B, T, H, W, 3)`, `label` `(B,)`; `pose` `(B, T, P J, 3)`, ones."""
        import torch

        shape = (batch_size, self._served.clip.frames, *self._served.input.size, 3)
        batch: dict[str, Any] = {
            "frames": torch.zeros(*shape, dtype=torch.uint8),
            "label": torch.zeros(batch_size, dtype=torch.int64),
            "case_id": ["example"] * batch_size,
        }
        if self.preparation.motion:
            batch["partners"] = torch.zeros(*shape, dtype=torch.uint8)
        if joints := self._fitted().joints:
            batch["pose"] = torch.ones(batch_size, self._served.clip.frames, len(joints) * self._served.pose.persons, 3)
        return batch

    @property
    def preparation(self) -> Preparation:
        """How clips are made."""
        from domains.video.clip_action.preparation import Preparation

        served = self._served
        joints = self._pose_reader().joints
        mirror = joints.mirror if joints else ()
        return Preparation(served.input, served.clip, "motion" in served.model.streams, mirror)

    @property
    def _frozen(self) -> bool:
        encoder = self._served.model.encoder
        return encoder.name == "efficientnet_lite0" and encoder.frozen

    def _frame_store(self) -> FrameStore:
        from domains.video.clip_action.clips import FrameStore

        if self._frames is None:
            # Features of a frozen encoder need every frame once: nothing is gained by holding them.
            limit = 0 if self._frozen else int(self._served.input.cache_gigabytes * 2**30)
            self._frames = FrameStore(self._served.input, limit=limit)
        return self._frames

    def _feature_store(self, network: ClipModel, device: str) -> FeatureStore:
        import torch

        from domains.video.clip_action.features import FeatureStore

        if self._features is None:
            served = self._served
            how = {
                "encoder": served.model.encoder.model_dump(mode="json"),
                "grid": served.model.grid,
                "input": served.input.model_dump(mode="json", exclude={"cache_gigabytes"}),
                "clip": served.clip.model_dump(mode="json"),
            }
            self._features = FeatureStore(
                network,
                self._frame_store(),
                self.preparation,
                how=how,
                device=torch.device(device),
                precision=self._precision(device),
                limit=int(served.input.cache_gigabytes * 2**30),
            )
        return self._features

    def _precision(self, device: str) -> torch.dtype:
        import torch

        from pipelines.training.machine import choose_precision

        known = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return known[choose_precision(self._served.infer.precision, device)]

    def _all_classes(self) -> tuple[str, ...]:
        """Folds of a cross-validation are judged together, by a task that was not fitted."""
        if self._plan is not None:
            return self._plan.classes
        if not self._classes:
            self.read_cases()
        return self._classes

    def _fitted(self) -> ClipPlan:
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan
