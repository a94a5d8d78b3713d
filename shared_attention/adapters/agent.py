"""Agent attention in its three releases, as published."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from shared_attention.mechanisms.sparse.agent import Agent, AgentWithClassToken
from shared_attention.published import Adapter, adapts

__all__ = ["AgentDeit", "AgentPvt", "AgentSwin"]


class _Agent(Adapter):
    """What the three share: names, and biases as maps and lines."""

    def agents(self) -> int:
        """Agents along an axis; the authors' code serves square numbers alone."""
        count = self.given("agent_num", 49)
        if isqrt(count) ** 2 != count:
            raise ValueError(f"agent_num={count} is not served, only square numbers")
        return isqrt(count)

    def shared(self) -> dict[str, Tensor]:
        """Entries under our names, but for queries, keys and values."""
        state = self.state
        return {
            **state.rename({"proj": "proj", "dwc": "local.conv"}),
            "collecting.map": state("an_bias"),
            "answering.map": state("na_bias"),
            "collecting.lines.0": state("ah_bias")[0, ..., 0],  # (H, A, rows)
            "collecting.lines.1": state("aw_bias")[0, ..., 0, :],
            "answering.lines.0": state("ha_bias")[0, :, :, 0].transpose(-2, -1),
            "answering.lines.1": state("wa_bias")[0, :, 0].transpose(-2, -1),
        }

    def split(self) -> dict[str, Tensor]:
        """Queries apart from keys and values."""
        parts = {}
        for name, value in self.state.under("qkv").items():
            parts[f"q.{name}"], parts[f"kv.{name}"] = value.split([len(value) // 3, 2 * len(value) // 3])
        return parts


@adapts("agent_attention_swin", mechanism="agent")
class AgentSwin(_Agent):
    """Windows that were cut already, a line of tokens each; the mask of a shift is ignored."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop", "shift_size", "qk_scale")
        return Agent(
            given("dim"),
            rank=2,
            heads=given("num_heads"),
            agents=self.agents(),
            grid=tuple(given("window_size")),
            qkv_bias=given("qkv_bias", True),
        )

    def convert(self) -> dict[str, Tensor]:
        return self.shared() | self.split()

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"]
        side = isqrt(x.shape[1])
        return {"out": module(x.unflatten(1, (side, side))).flatten(1, 2)}


@adapts("agent_attention_pvt", mechanism="agent")
class AgentPvt(_Agent):
    """A line of tokens of a square image; keys and values from a coarser grid."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop", "qk_scale")
        self.side = isqrt(given("num_patches"))
        return Agent(
            given("dim"),
            rank=2,
            heads=given("num_heads", 8),
            agents=self.agents(),
            grid=self.side,
            ratio=given("sr_ratio", 1),
            qkv_bias=given("qkv_bias", False),
        )

    def convert(self) -> dict[str, Tensor]:
        names = {"q": "q", "kv": "kv", "sr": "coarser.reduce.conv", "norm": "coarser.norm"}
        return self.shared() | self.state.rename(names)

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        x = self.inputs["x"]
        grid = (self.side, x.shape[1] // self.side)
        return {"out": module(x.unflatten(1, grid)).flatten(1, 2)}


@adapts("agent_attention_deit", mechanism="agent")
class AgentDeit(_Agent):
    """The class token first, then a line of the tokens of a square image."""

    def build(self) -> nn.Module:
        given = self.given
        given.ignore("attn_drop", "proj_drop", "qk_scale")
        return AgentWithClassToken(
            given("dim"),
            rank=2,
            heads=given("num_heads", 8),
            agents=self.agents(),
            grid=given("window", 14),
            qkv_bias=given("qkv_bias", False),
        )

    def convert(self) -> dict[str, Tensor]:
        own = {"collecting_class": self.state("ac_bias")[0, ..., 0], "answering_class": self.state("ca_bias")[0, :, 0]}
        return self.shared() | self.split() | own

    def run(self, module: nn.Module) -> dict[str, Tensor]:
        assert isinstance(module, AgentWithClassToken)
        x = self.inputs["x"]
        side = isqrt(x.shape[1] - 1)
        image, token = module.together(x[:, 1:].unflatten(1, (side, side)), x[:, 0])
        return {"out": torch.cat([token.unsqueeze(1), image.flatten(1, 2)], 1)}
