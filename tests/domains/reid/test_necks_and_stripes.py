"""Statistics of each camera, and pooling in stripes."""

import pytest
import torch
from torch import nn

from domains.reid.models.backbones import ConvolutionalFeatures
from domains.reid.models.embedder import Embedder
from domains.reid.models.looking import looked_at
from domains.reid.models.necks import CameraNeck, make_neck
from domains.reid.models.pooling import GeneralisedMean, mean_of_stripes
from domains.reid.settings import HeadSettings
from pipelines.encoders.efficientnet import EfficientNetLite0


def test_what_a_camera_does_to_all_its_features_is_taken_out():
    torch.manual_seed(0)
    neck = CameraNeck(6, 2)
    person = torch.randn(40, 6)
    camera = torch.tensor([1, 2]).repeat(20)
    shifted = torch.where((camera == 2)[:, None], 3 * person + 5, person)
    for _ in range(200):
        out = neck(shifted, camera)
    for number in (1, 2):
        own = out[camera == number]
        torch.testing.assert_close(own.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(own.var(0, unbiased=False), torch.ones(6), atol=1e-3, rtol=0)


def test_at_service_an_image_is_a_function_of_itself_and_its_camera_alone():
    torch.manual_seed(0)
    neck = CameraNeck(4, 2)
    camera = torch.tensor([1, 2, 1, 2, 0, 1])
    features = torch.randn(6, 4)
    neck(features + camera[:, None], camera)
    neck.eval()
    together = neck(features, camera)
    alone = torch.cat([neck(features[row : row + 1], camera[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(neck(features), neck(features, torch.zeros(6, dtype=torch.long)))


def test_a_camera_with_one_image_in_a_batch_is_normalised_by_what_is_known_so_far():
    neck = CameraNeck(3, 2)
    features = torch.randn(5, 3, requires_grad=True)
    out = neck(features, torch.tensor([1, 1, 1, 1, 2]))
    torch.testing.assert_close(out[4], features[4] / (1 + 1e-5) ** 0.5)
    assert torch.equal(neck.norms[2].running_mean, torch.zeros(3))
    out.square().sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_one_camera_is_the_usual_neck():
    torch.manual_seed(0)
    usual, ours = make_neck(5, 0), make_neck(5, 1)
    assert isinstance(usual, nn.BatchNorm1d)
    assert not usual.bias.requires_grad
    features = torch.randn(12, 5)
    torch.testing.assert_close(usual(features), ours(features, torch.ones(12, dtype=torch.long)))
    with pytest.raises(ValueError, match="0 cameras"):
        CameraNeck(5, 0)
    with pytest.raises(ValueError, match="cameras is about the neck"):
        HeadSettings(neck=False, cameras=True)


def test_stripes_are_pooled_apart_from_top_to_bottom():
    maps = torch.arange(8.0).reshape(1, 1, 4, 2).repeat(1, 3, 1, 1)
    assert mean_of_stripes(maps, 2).tolist() == [[1.5] * 3 + [5.5] * 3]
    torch.testing.assert_close(mean_of_stripes(maps, 1), maps.mean((2, 3)))
    pooled = GeneralisedMean(1.0, stripes=4)(maps + 1)
    torch.testing.assert_close(pooled, torch.tensor([1.5, 3.5, 5.5, 7.5]).repeat_interleave(3)[None])


def test_evidence_comes_from_the_weights_of_the_stripe():
    torch.manual_seed(0)
    backbone = ConvolutionalFeatures(EfficientNetLite0(last_stride=1), pool="mean", stripes=2)
    network = Embedder(backbone, 2 * EfficientNetLite0.channels, 3, neck=False).eval()
    image = torch.randn(1, 3, 128, 64)
    with torch.no_grad():
        nn.init.ones_(network.heads["global"].classifier.weight)
        network.heads["global"].classifier.weight[:, EfficientNetLite0.channels :] = 0
        whole = looked_at(network, image, 1)
    assert whole.shape == (8, 4)
    assert whole[:4].sum() > 0
    assert whole[4:].sum() == 0
