"""SpectFormer's spectral gating and block, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.blocks import FeedForward
from shared_attention.mechanisms.mixing.spectral_gating import SpectralGating
from shared_attention.published import Adapter, adapts

__all__ = ["SpectformerBlock", "SpectformerGating"]


class _Gating(Adapter):
    """Tokens in a row; the weights say how high the image is, and the half of how wide."""

    def _mixer(self, dim: int) -> SpectralGating:
        height, half = self.given("h", 14), self.given("w", 8)
        width = 2 * (half - 1)
        if "x" in self.inputs:  # an odd width has the same half as the even one below it
            width = self.inputs["x"].shape[1] // height
        return SpectralGating(dim, rank=2, grid=(height, width))

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"]  # (B, N, C)
        height = self.given("h", 14)
        return {"out": module(x.unflatten(1, (height, -1))).flatten(1, 2)}


@adapts("spectformer_sgn", mechanism="spectral_gating")
class SpectformerGating(_Gating):
    """The gating alone."""

    def build(self) -> nn.Module:
        return self._mixer(self.given("dim"))

    def convert(self) -> dict[str, Tensor]:
        return {"weight": self.state("complex_weight")}


class _SpectralBlock(nn.Module):
    """Gating and feed-forward part one after the other, inside one residual."""

    def __init__(self, mixer: SpectralGating, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(mixer.dim)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(mixer.dim)
        self.feed_forward = FeedForward(mixer.dim, hidden=hidden)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.feed_forward(self.norm2(self.mixer(self.norm1(x))))  # (B, H, W, C)


@adapts("spectformer_block", mechanism="spectral_gating")
class SpectformerBlock(_Gating):
    """A block of the first layers."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("drop", "drop_path")
        dim = given("dim")
        return _SpectralBlock(self._mixer(dim), int(dim * given("mlp_ratio", 4.0)))

    def convert(self) -> dict[str, Tensor]:
        return self.state.rename(
            {
                "norm1": "norm1",
                "filter.complex_weight": "mixer.weight",
                "norm2": "norm2",
                "mlp.fc1": "feed_forward.expand",
                "mlp.fc2": "feed_forward.contract",
            }
        )
