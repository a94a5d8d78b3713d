"""TransMIL with the Nyström attention of the package it was published with."""

from __future__ import annotations

from torch import Tensor, nn

from domains.medical.bags.networks.transmil import TransformerBags
from shared_attention.published import Adapter, adapts

__all__ = ["TransMil"]


@adapts("transmil", mechanism="medical/bags/transmil")
class TransMil(Adapter):
    """Dropout is off in evaluation."""

    def build(self) -> nn.Module:
        given = self.given
        hidden = given("D_inner", 512)
        return TransformerBags(
            given("D_feat"),
            given("n_class"),
            hidden=hidden,
            heads=given("heads", 8),
            landmarks=given("landmarks", hidden // 2),
            steps=given("pinv_iterations", 6),
            kernel=given("res_conv_kernel", 33),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"_fc1.0": "embed.0", "_fc2": "head", "norm": "norm", "cls_token": "token"}
        for number, name in enumerate(("proj", "proj1", "proj2")):
            names[f"pos_layer.{name}"] = f"square.convs.{number}"
        for theirs, ours in (("layer1", "first"), ("layer2", "second")):
            names |= {f"{theirs}.norm": f"{ours}.norm", f"{theirs}.attn.to_qkv": f"{ours}.qkv"}
            names |= {f"{theirs}.attn.to_out.0": f"{ours}.proj", f"{theirs}.attn.res_conv": f"{ours}.conv"}
        found = self.state.rename(names)
        return {name: value.squeeze(-1) if name.endswith(".conv.weight") else value for name, value in found.items()}

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        return {"out.logits": module(self.inputs["x"]).logits}
