"""CrossFormer's patch embedding, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.mechanisms.reducers.cross_scale import CrossScaleEmbedding
from shared_attention.published import Adapter, adapts

__all__ = ["CrossFormerEmbedding"]


@adapts("crossformer_cel", mechanism="cross_scale")
class CrossFormerEmbedding(Adapter):
    """Channels first, on an image; tokens of a line come out."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("img_size")
        kernels = tuple(given("patch_size", (4,)))
        norm = given("norm_layer", None)
        if norm not in (None, "nn.LayerNorm", "LayerNorm"):
            raise ValueError(f"norm_layer {norm!r} is not served, only nn.LayerNorm and None")
        return CrossScaleEmbedding(
            given("in_chans", 3),
            rank=2,
            out=given("embed_dim", 96),
            kernels=kernels,
            stride=kernels[0],
            norm=norm is not None,
        )

    def convert(self) -> dict[str, Tensor]:
        branches = self.state.under("projs")  # `0.weight` and so on
        named = {f"branches.{name.replace('.', '.conv.')}": value for name, value in branches.items()}
        return named | self.state.rename({"norm": "norm"})

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out": module(self.inputs["x"].movedim(1, -1)).tokens}
