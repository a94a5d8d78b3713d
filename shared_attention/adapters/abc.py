"""ABC of the CAB benchmark, as published."""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.adapters.cab import Cab
from shared_attention.mechanisms.approximate.abc import BoundedMemory
from shared_attention.published import adapts

__all__ = ["CabAbc"]


@adapts("cab_abc", mechanism="abc")
class CabAbc(Cab):
    """With `cross` the causal branch is never taken."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("dropout")
        causal, cross = given("causal", False), given("cross", False)
        return BoundedMemory(
            given("embed_dim"),
            rank=1,
            heads=given("num_heads"),
            landmarks=given("num_landmarks", 16),
            causal=causal and not cross,
            qkv_bias=given("bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"q_proj": "q", "out_proj": "proj", "compress_k": "write_keys", "compress_v": "write_values"}
        kv = {f"kv.{name}": value for name, value in self.joined("k_proj", "v_proj").items()}
        return self.state.rename(names) | kv

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, BoundedMemory)
        x, context, real = self.context()
        if module.causal:
            return {"out": module.mix(x, None, real, None).transpose(0, 1)}  # padded queries are computed too
        return {"out": module(x, x if context is None else context, context_mask=real).transpose(0, 1)}
