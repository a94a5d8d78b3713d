"""From settings and a plan to a network."""

from __future__ import annotations

from domains.video.pose.dsta import SpaceTimeAggregation
from domains.video.pose.groups import groups_by_name, groups_of
from domains.video.pose.network import PlainPose, SpaceTimePose
from domains.video.pose.settings import ModelSettings
from domains.video.skeletons.joints import JointSet
from pipelines.encoders.efficientnet import EfficientNetLite0, load_imagenet
from pipelines.errors import ConfigurationError

__all__ = ["build_network"]


def build_network(
    model: ModelSettings, joints: JointSet, *, frames: int, pretrained: bool = True
) -> SpaceTimePose | PlainPose:
    """A fresh network.

    Args:
        model: The settings.
        joints: The joints.
        frames: Frames of a clip.
        pretrained: Whether the encoder starts from the weights that the settings name.

    Raises:
        ConfigurationError: Settings do not fit together, or to the joints.
        EnvironmentProblem: The package with ImageNet's weights is not installed.
    """
    encoder = EfficientNetLite0(
        depth=model.stages,
        last_stride=model.last_stride,
        frozen_stages=model.frozen_stages,
        frozen_norms=model.frozen_norms,
    )
    if pretrained and model.weights == "imagenet":
        load_imagenet(encoder)
    if model.head == "plain":
        return PlainPose(encoder, encoder.channels, len(joints), frames=frames)
    try:
        groups = groups_by_name(joints, model.groups) if model.groups else groups_of(joints)
        aggregation = SpaceTimeAggregation(
            len(joints),
            model.dim,
            frames=frames,
            groups=groups,
            order=range(len(joints)),
            depth=model.depth,
            heads=model.heads,
            expansion=model.expansion,
            drop_path=model.drop_path,
        )
    except ValueError as error:
        raise ConfigurationError(f"model: it cannot be built: {error}") from error
    return SpaceTimePose(
        encoder,
        encoder.channels,
        aggregation,
        dim=model.dim,
        looking=model.tokens == "looking",
        reach=model.reach,
        prior_mean=model.prior_mean,
    )
