"""A few agents, pooled from the queries, collect from all keys and answer to all queries (agent attention).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("agent", 32, rank=3, agents=2, grid=4)
>>> mixer(torch.zeros(2, 4, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 4, 5, 6, 32])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution, channels_first, channels_last
from shared_attention.mechanisms.plain.spatial_reduction import Coarser
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register
from shared_attention.resizing import resized

__all__ = ["Agent", "AgentBias", "AgentWithClassToken"]

_POOL = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}
_USUAL = {1: 49, 2: 7, 3: 4}
_COARSE = 7


class AgentBias(nn.Module):
    """A bias for each head, agent and place: a map of seven places an axis, enlarged, and a line along each axis.

    Args:
        heads: Number of heads `H`.
        agents: Number of agents `A`.
        grid: Places along each axis that the lines were made for.
    """

    def __init__(self, heads: int, agents: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.empty(heads, agents, *[_COARSE] * len(grid)))
        self.lines = nn.ParameterList([nn.Parameter(torch.empty(heads, agents, size)) for size in grid])
        for parameter in self.parameters():
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, grid: Sequence[int]) -> Tensor:
        """`(H, A, N)` for the row-major places of a grid."""
        total = resized(self.map, grid)  # (H, A, *S)
        for axis, (line, size) in enumerate(zip(self.lines, grid, strict=True)):
            shape = [size if one == axis else 1 for one in range(len(grid))]
            total = total + resized(line, [size]).unflatten(-1, shape)
        return total.flatten(2)


@register(
    Card(
        name="agent",
        title="Agent attention",
        paper="Han et al., Agent Attention: On the Integration of Softmax and Linear Attention, ECCV 2024",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 4*N*C*49 + 3**rank*N*C",
        formula="A = mean of q over a coarse grid               (H, agents, D)\n"
        "V = softmax(A kᵀ / √D + B₁) v                  (H, agents, D)\n"
        "y = W (softmax(q Aᵀ / √D + B₂) V + dwconv₃(v))",
        source=Source("LeapLabTHU/Agent-Attention", "207ce3e", "none"),
        fixtures=("agent_attention_swin", "agent_attention_pvt", "agent_attention_deit"),
        notes="The cost is that of 49 agents (64 by default on a volume). Agents are means of the queries over a "
        "coarse grid; an agent without a real token is left out. Biases along the axes are made for `grid` and "
        "resized to the grid at hand. The published window class ignores the mask of its shift, so ours has no "
        "windows; the class token of the third variant is served by `AgentWithClassToken`.",
        small={"agents": 2, "grid": 8},
    )
)
class Agent(TokenMixer):
    """Softmax attention of agents to all tokens, of all tokens to the agents, and a convolution of the values.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        agents: Agents along each axis; None for 49 in all on a line or image, 64 on a volume.
        grid: Tokens along each axis that the learned biases are made for; others get them resized.
        ratio: Tokens along each axis that one key and value is made of.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        agents: int | tuple[int, ...] | None = None,
        grid: int | tuple[int, ...] = 14,
        ratio: int | tuple[int, ...] = 1,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.agents = per_axis("agents", _USUAL[rank] if agents is None else agents, rank)
        grid, ratio = per_axis("grid", grid, rank), per_axis("ratio", ratio, rank)
        self.dropout = dropout
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.coarser = Coarser(dim, rank=rank, ratio=ratio) if any(part > 1 for part in ratio) else None
        self.local = Convolution(dim, dim, rank=rank, groups=dim)
        keys = [max(size // part, 1) for size, part in zip(grid, ratio, strict=True)]
        self.collecting = AgentBias(self.heads, prod(self.agents), keys)
        self.answering = AgentBias(self.heads, prod(self.agents), grid)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        q = blank(self.q(x), mask)
        seen, seen_mask = (x, mask) if self.coarser is None else self.coarser(x, mask)
        k, v = blank(self.kv(seen), seen_mask).chunk(2, -1)  # (B, *R, C)
        agents, alive = self._pooled(q, mask)
        out = self._through(
            split_heads(q, self.heads),
            split_heads(k, self.heads),
            split_heads(v, self.heads),
            split_heads(agents, self.heads),
            self.collecting(seen.shape[1:-1]),
            self.answering(grid).transpose(-2, -1),
            flat_mask(seen_mask),
            flat_mask(alive),
        )
        return self.proj(join_heads(out, grid) + self._nearby(v, grid, mask))

    def _pooled(self, q: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Agents `(B, *A, C)`: means of the queries `(B, *S, C)`; and bool `(B, *A)`, which hold a real token."""
        pool = _POOL[self.rank]
        means = channels_last(pool(channels_first(q), self.agents))  # type: ignore[arg-type]
        if mask is None:
            return means, None
        share = pool(mask.unsqueeze(1).to(q.dtype), self.agents).squeeze(1)  # type: ignore[arg-type]
        return means / share.masked_fill(share == 0, 1.0).unsqueeze(-1), share > 0

    def _through(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        agents: Tensor,
        collecting: Tensor,
        answering: Tensor,
        seen: Tensor | None,
        alive: Tensor | None,
    ) -> Tensor:
        """Queries `(B, H, N, D)` to agents `(B, H, A, D)` to keys and values `(B, H, M, D)`, and back."""
        dropout = self.dropout if self.training else 0.0
        collected = attend(agents, k, v, bias=collecting, mask=seen, dropout=dropout)  # (B, H, A, D)
        return attend(q, agents, collected, bias=answering, mask=alive, dropout=dropout)  # (B, H, N, D)

    def _nearby(self, v: Tensor, grid: Sequence[int], mask: Tensor | None) -> Tensor:
        if self.coarser is not None:
            v = blank(channels_last(resized(channels_first(v), grid)), mask)
        return self.local(v)


class AgentWithClassToken(Agent):
    """Agent attention of a grid of tokens and a class token: agents come from the grid alone, the class token has
    biases of its own and no convolution. Arguments are those of `Agent`.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        agents: int | tuple[int, ...] | None = None,
        grid: int | tuple[int, ...] = 14,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, agents=agents, grid=grid, qkv_bias=qkv_bias, dropout=dropout)
        self.collecting_class = nn.Parameter(torch.empty(self.heads, prod(self.agents)))
        self.answering_class = nn.Parameter(torch.empty(self.heads, prod(self.agents)))
        for parameter in (self.collecting_class, self.answering_class):
            nn.init.trunc_normal_(parameter, std=0.02)

    def together(self, x: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, *S, C)` and the class token `(B, C)` to the same two."""
        grid = x.shape[1:-1]
        every = torch.cat([token.unsqueeze(1), x.flatten(1, -2)], 1)  # (B, 1 + N, C)
        q, (k, v) = self.q(every), self.kv(every).chunk(2, -1)
        agents, _ = self._pooled(q[:, 1:].unflatten(1, grid), None)
        out = self._through(
            split_heads(q, self.heads),
            split_heads(k, self.heads),
            split_heads(v, self.heads),
            split_heads(agents, self.heads),
            torch.cat([self.collecting_class.unsqueeze(-1), self.collecting(grid)], -1),
            torch.cat([self.answering_class.unsqueeze(-2), self.answering(grid).transpose(-2, -1)], -2),
            None,
            None,
        )
        out = join_heads(out, every.shape[1:-1])  # (B, 1 + N, C)
        image = out[:, 1:].unflatten(1, grid) + self.local(v[:, 1:].unflatten(1, grid))
        return self.proj(image), self.proj(out[:, 0])
