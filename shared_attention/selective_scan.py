"""The selective scan of state space models (Mamba), along many routes at once, in memory linear in the tokens.

Along a route each channel carries a state of `N` numbers. A token `x` first fades it, the more the larger its step
`d = softplus(...)`, then adds itself, then reads it out:

    h <- exp(d * A) * h + d * x * B        y = <h, C> + D * x

with `d`, `B` and `C` computed from the token. The recurrence runs over pieces of the route side by side: first the
state that each piece leaves behind, then the states at the seams, then the pieces again from those. States are never
kept for all tokens; the gradient recomputes them from a few on the way.

>>> import torch
>>> scan = SelectiveScan(8, routes=2, state=4)
>>> order = torch.stack([torch.arange(5), torch.arange(5).flip(0)])  # (K, L): there and back
>>> scan(torch.zeros(3, 1, 5, 8), order).shape  # (B, H, L, D) to (B, K, L, D)
torch.Size([3, 2, 5, 8])
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import positive

__all__ = ["SelectiveScan"]

_SEGMENT = 64
"""Steps between two states that are kept for the gradient."""
_TILE = {"cpu": 2**16, "cuda": 2**22}
"""Numbers that one step works on: as many as stay in a fast cache, or as fill a GPU."""


class SelectiveScan(nn.Module):
    """A scan of each head along its own routes, with its own weights for each route.

    Args:
        dim: Channels `D` of a head.
        routes: Routes `K`, those of all heads together.
        state: Numbers `N` that each channel carries.
        step_rank: Numbers that the step of all channels is computed from; None for a sixteenth of `dim`, rounded up.
        steps: Smallest and largest step of a token at the start.
    """

    def __init__(
        self,
        dim: int,
        *,
        routes: int,
        state: int = 16,
        step_rank: int | None = None,
        steps: tuple[float, float] = (1e-3, 1e-1),
    ) -> None:
        super().__init__()
        self.step_rank = rank = math.ceil(dim / 16) if step_rank is None else step_rank
        positive("state", state)
        positive("step_rank", rank)
        self.project = nn.Parameter(torch.empty(routes, rank + 2 * state, dim).uniform_(-(dim**-0.5), dim**-0.5))
        self.step_weight = nn.Parameter(torch.empty(routes, dim, rank).uniform_(-(rank**-0.5), rank**-0.5))
        low, high = (math.log(size) for size in steps)
        first = torch.empty(routes, dim).uniform_(low, high).exp()
        self.step_bias = nn.Parameter(first + torch.log(-torch.expm1(-first)))  # softplus gives `first` back
        self.decay_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(routes, dim, 1))
        self.skip = nn.Parameter(torch.ones(routes, dim))

    def forward(self, x: Tensor, order: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scan.

        Args:
            x: `(B, H, L, D)`, tokens of each head in row-major order.
            order: int64 `(K, L)`, K a multiple of H: the route of each scan; the first `K / H` read the first head.
            mask: bool `(B, L)`, True for a real token; others leave every state as it is.

        Returns:
            `(B, K, L, D)`, what each route gives, in row-major order, of the dtype of `x`.
        """
        heads = x.shape[1]
        weight = self.project.unflatten(0, (heads, -1))  # (H, K / H, R + 2 N, D)
        projected = torch.einsum("bhld,hkcd->bhklc", x, weight).flatten(1, 2)  # (B, K, L, R + 2 N)
        wide = torch.promote_types(x.dtype, torch.float32)
        decay = -self.decay_log.to(wide).exp().transpose(1, 2)  # (K, N, D)
        given = (x, projected, self.step_weight, self.step_bias, decay, self.skip)
        out, _ = _scan(*(one.to(wide).contiguous() for one in given), order, mask)
        return out.to(x.dtype)


class _Pieces:
    """The routes cut into `pieces` of `length` tokens that are walked side by side, `_SEGMENT` steps at a time."""

    def __init__(
        self,
        x: Tensor,
        projected: Tensor,
        step_weight: Tensor,
        step_bias: Tensor,
        decay: Tensor,
        order: Tensor,
        mask: Tensor | None,
    ) -> None:
        self.tokens, self.routes, self.state = x.shape[2], decay.shape[0], decay.shape[1]
        self.pieces, self.length, self.segments = _cut(x, decay)
        self.x = x.flatten(1, 2)  # (B, H L, D)
        self.projected = projected.flatten(1, 2)  # (B, K L, R + 2 N)
        self.step_weight, self.step_bias = (
            step_weight[:, None].mT,
            step_bias[:, None, None],
        )  # (K, 1, R, D), (K, 1, 1, D)
        self.decay = decay[:, None]  # (K, 1, N, D)
        self.order, self.mask = order, mask
        heads = torch.arange(self.routes, device=x.device) // (self.routes // x.shape[1])
        self.head_start = heads * self.tokens

    def zeros(self) -> Tensor:
        """One state for each piece, `(B, K, G, N, D)`."""
        return self.x.new_zeros(len(self.x), self.routes, self.pieces, self.state, self.x.shape[-1])

    def segment(self, number: int) -> _Segment:
        return _Segment(self, number)


class _Segment:
    """Some steps of all pieces: `(B, K, T, G, ...)`."""

    def __init__(self, pieces: _Pieces, number: int) -> None:
        first = number * _SEGMENT
        steps = min(_SEGMENT, pieces.length - first)
        device = pieces.x.device
        starts = torch.arange(pieces.pieces, device=device) * pieces.length
        step = torch.arange(first, first + steps, device=device)[:, None] + starts  # (T, G)
        self.inside = step < pieces.tokens  # the last piece may be shorter
        self.whole = first + steps + (pieces.pieces - 1) * pieces.length <= pieces.tokens
        place = pieces.order[:, step.clamp(max=pieces.tokens - 1)]  # (K, T, G)
        routes = torch.arange(pieces.routes, device=device)[:, None, None]
        self.from_x = place + pieces.head_start[:, None, None]
        self.from_routes = place + routes * pieces.tokens
        self.x = pieces.x[:, self.from_x]  # (B, K, T, G, D)
        rank = pieces.step_weight.shape[-2]
        self.step_input, self.write, self.read = pieces.projected[:, self.from_routes].split(
            [rank, pieces.state, pieces.state], -1
        )
        self.before = self.step_input @ pieces.step_weight + pieces.step_bias
        self.real = self.inside if pieces.mask is None else self.inside & pieces.mask[:, place]
        self.step = functional.softplus(self.before) * self.real[..., None]  # (B, K, T, G, D)
        self.steps = steps

    def fade(self, at: int, decay: Tensor) -> Tensor:
        """How much of each state is left after step `at`: `(B, K, G, N, D)`."""
        return (self.step[:, :, at, :, None] * decay).exp_()

    def put(self, target: Tensor, values: Tensor) -> None:
        """Store `(B, K, T, G, E)` in `(B, K L, E)`."""
        values = values.flatten(1, 3)
        index = self.from_routes.flatten()
        if not self.whole:
            kept = self.inside.expand_as(self.from_routes).flatten()
            index, values = index[kept], values[:, kept]
        target.index_copy_(1, index, values)

    def add(self, target: Tensor, values: Tensor) -> None:
        """Add `(B, K, T, G, D)` to `(B, H L, D)`, route by route, as no route meets a token twice."""
        for route, index in enumerate(self.from_x):
            kept, one = (index.flatten(), values[:, route].flatten(1, 2))
            if not self.whole:
                inside = self.inside.flatten()
                kept, one = kept[inside], one[:, inside]
            target[:, kept] += one


def _cut(x: Tensor, decay: Tensor) -> tuple[int, int, int]:
    """Pieces, tokens of a piece, and segments of a piece."""
    batch, _, tokens, dim = x.shape
    together = batch * decay.shape[0] * decay.shape[1] * dim
    pieces = max(1, min(_TILE.get(x.device.type, 2**16) // together, tokens // _SEGMENT))
    length = -(-tokens // pieces)
    return pieces, length, -(-length // _SEGMENT)


def _seams(own: Tensor, fade: Tensor, *, backwards: bool = False) -> Tensor:
    """What enters each piece, from what each gives of its own and what it leaves of what enters: `(B, K, G, N, D)`."""
    entering = torch.zeros_like(own)
    pieces = range(own.shape[2])
    for before, after in pairwise(reversed(pieces) if backwards else pieces):
        entering[:, :, after] = own[:, :, before] + fade[:, :, before] * entering[:, :, before]
    return entering


@torch.library.custom_op("shared_attention::selective_scan", mutates_args=())
def _scan(
    x: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    order: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The recurrence itself, differentiable once.

    Args:
        x: `(B, H, L, D)`, float32 or float64 as all that follow.
        projected: `(B, K, L, R + 2 N)`: what the step is computed from, then `B`, then `C`, of each token and route.
        step_weight: `(K, D, R)`.
        step_bias: `(K, D)`.
        decay: `(K, N, D)`, the negative numbers `A`.
        skip: `(K, D)`, the numbers `D`.
        order: int64 `(K, L)`.
        mask: bool `(B, L)`.

    Returns:
        `(B, K, L, D)` in row-major order, and the states `(segments, B, K, G, N, D)` before each segment.
    """
    with torch.autocast(x.device.type, enabled=False):
        pieces = _Pieces(x, projected, step_weight, step_bias, decay, order, mask)
        state = pieces.zeros()
        if pieces.pieces > 1:
            passed = x.new_zeros(*state.shape[:3], 1, state.shape[-1])
            for number in range(pieces.segments):
                part = pieces.segment(number)
                added = part.step * part.x
                passed += part.step.sum(2)[..., None, :]
                for at in range(part.steps):
                    state.mul_(part.fade(at, pieces.decay))
                    state.addcmul_(part.write[:, :, at, ..., None], added[:, :, at, :, None])
            state = _seams(state, (passed * pieces.decay).exp_())
        out = x.new_empty(x.shape[0], pieces.routes * pieces.tokens, x.shape[-1])
        kept = x.new_empty(pieces.segments, *state.shape)
        for number in range(pieces.segments):
            part = pieces.segment(number)
            kept[number] = state
            added = part.step * part.x
            given = part.x * skip[:, None, None]
            for at in range(part.steps):
                state.mul_(part.fade(at, pieces.decay))
                state.addcmul_(part.write[:, :, at, ..., None], added[:, :, at, :, None])
                given[:, :, at] += (part.read[:, :, at, :, None] @ state).squeeze(-2)
            part.put(out, given)
    return out.unflatten(1, (pieces.routes, pieces.tokens)), kept


@torch.library.custom_op("shared_attention::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    kept: Tensor,
    x: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    order: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        pieces = _Pieces(x, projected, step_weight, step_bias, decay, order, mask)
        wanted = grad.flatten(1, 2)  # (B, K L, D)
        back = pieces.zeros()  # gradient of the state, of what comes after the step
        if pieces.pieces > 1:
            passed = x.new_zeros(*back.shape[:3], 1, back.shape[-1])
            for number in reversed(range(pieces.segments)):
                part = pieces.segment(number)
                given = wanted[:, part.from_routes] * part.inside[..., None]
                passed += part.step.sum(2)[..., None, :]
                for at in reversed(range(part.steps)):
                    back.addcmul_(part.read[:, :, at, ..., None], given[:, :, at, :, None])
                    back.mul_(part.fade(at, pieces.decay))
            back = _seams(back, (passed * pieces.decay).exp_(), backwards=True)
        of_x, of_projected = torch.zeros_like(pieces.x), torch.empty_like(pieces.projected)
        of_weight, of_bias, of_skip = torch.zeros_like(step_weight), torch.zeros_like(step_bias), torch.zeros_like(skip)
        of_decay = back.new_zeros(back.shape)
        for number in reversed(range(pieces.segments)):
            part = pieces.segment(number)
            given = wanted[:, part.from_routes] * part.inside[..., None]  # (B, K, T, G, D)
            added = part.step * part.x
            states = [kept[number]]
            for at in range(part.steps):
                state = states[-1] * part.fade(at, pieces.decay)
                states.append(state.addcmul_(part.write[:, :, at, ..., None], added[:, :, at, :, None]))
            of_added, of_step = torch.empty_like(added), torch.empty_like(added)
            of_write, of_read = torch.empty_like(part.write), torch.empty_like(part.read)
            for at in reversed(range(part.steps)):
                here = given[:, :, at, :, None]  # (B, K, G, 1, D)
                of_read[:, :, at] = (states[at + 1] * here).sum(-1)
                back.addcmul_(part.read[:, :, at, ..., None], here)
                of_write[:, :, at] = (back * added[:, :, at, :, None]).sum(-1)
                of_added[:, :, at] = (part.write[:, :, at, :, None] @ back).squeeze(-2)
                back.mul_(part.fade(at, pieces.decay))
                through = back * states[at]
                of_decay.addcmul_(through, part.step[:, :, at, :, None])
                of_step[:, :, at] = through.mul_(pieces.decay).sum(-2)
            of_before = (of_step + of_added * part.x) * part.real[..., None] * part.before.sigmoid()
            part.add(of_x, of_added * part.step + given * skip[:, None, None])
            part.put(of_projected, torch.cat([of_before @ pieces.step_weight.mT, of_write, of_read], -1))
            flat = of_before.movedim(1, 0).flatten(1, 3)  # (K, B T G, D)
            of_weight += flat.mT @ part.step_input.movedim(1, 0).flatten(1, 3)
            of_bias += flat.sum(1)
            of_skip += (given * part.x).sum((0, 2, 3))
    return of_x.view_as(x), of_projected.view_as(projected), of_weight, of_bias, of_decay.sum((0, 2)), of_skip


@_scan.register_fake
def _(
    x: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    order: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    batch, _, tokens, dim = x.shape
    pieces, _, segments = _cut(x, decay)
    routes, state = decay.shape[:2]
    return x.new_empty(batch, routes, tokens, dim), x.new_empty(segments, batch, routes, pieces, state, dim)


@_scan_backward.register_fake
def _(
    grad: Tensor,
    kept: Tensor,
    x: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    order: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, projected, step_weight, step_bias, decay, skip = (
        torch.empty_like(one) for one in (x, projected, step_weight, step_bias, decay, skip)
    )
    return x, projected, step_weight, step_bias, decay, skip


def _keep(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output[1], *inputs)


def _gradients(ctx, grad, _):  # type: ignore[no-untyped-def]
    return *torch.ops.shared_attention.selective_scan_backward(grad, *ctx.saved_tensors), None, None


_scan.register_autograd(_gradients, setup_context=_keep)
