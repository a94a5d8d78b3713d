"""Attention over tokens: the one place where a softmax runs over them.

>>> import torch
>>> q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)  # each (B, H, N, D) = (2, 4, 5, 8)
>>> attend(q, k, v).shape
torch.Size([2, 4, 5, 8])
>>> real = torch.tensor([True, True, True, False, False])  # (M,), of the keys
>>> with use_backend("oracle"):
...     plain = attend(q, k, v, mask=real)
>>> torch.allclose(plain, attend(q[..., :, :], k[..., :3, :], v[..., :3, :]), atol=1e-6)
True

`attend` runs on PyTorch's fused attention; `use_backend("oracle")` runs the written-out form instead and
`use_backend("flex")` flex attention, where a GPU serves it. A mechanism whose weights are not those of queries
against keys uses `token_softmax`. Both are seen by `record_attention`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.parts import in_parts

__all__ = [
    "Backend",
    "attend",
    "attend_oracle",
    "backend",
    "is_recording",
    "record_attention",
    "token_softmax",
    "use_backend",
]

Backend = Literal["fused", "oracle", "flex"]

_LOG = logging.getLogger("shared_attention")


class _Setting:
    """The one setting of this module: what `attend` runs on, and who watches it."""

    backend: Backend = "fused"
    logged: frozenset[str] = frozenset()
    maps: dict[str, list[Tensor]] | None = None
    path: tuple[str, ...] = ()


_SETTING = _Setting()


class use_backend:
    """Choose what `attend` runs on: from now on, or inside a `with` block only.

    Args:
        name: `fused` (PyTorch's scaled dot product attention), `oracle` (written out, for tests), or `flex` (flex
            attention where it serves: on a GPU, without dropout; elsewhere the fused one).

    Raises:
        ValueError: No backend has this name.
    """

    def __init__(self, name: Backend) -> None:
        if name not in get_args(Backend):
            raise ValueError(f"no attention backend is called {name!r}; there are {', '.join(get_args(Backend))}")
        self._before = _SETTING.backend
        _SETTING.backend = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _SETTING.backend = self._before


def backend() -> Backend:
    """What `attend` runs on now."""
    return _SETTING.backend


def is_recording() -> bool:
    """Whether `record_attention` watches, so that a shortcut past the weights should not be taken."""
    return _SETTING.maps is not None


@contextmanager
def record_attention(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """See every attention map of a model while it runs.

    Args:
        model: Any module that holds mechanisms.

    Yields:
        A dictionary that fills while the model runs: path of the module in the model (empty for the model itself) to
        its maps in order, each `(..., H, N, M)` as the mechanism computes it (a window mechanism gives a map a
        window), detached, rows sum to one, or to zero where nothing may be seen. Maps are written out while
        recording, so memory grows with `N * M`.
    """
    maps: dict[str, list[Tensor]] = {}
    before = _SETTING.maps, _SETTING.path
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(_enter(path)))
        handles.append(module.register_forward_hook(_leave, always_call=True))
    _SETTING.maps, _SETTING.path = maps, ()
    try:
        yield maps
    finally:
        _SETTING.maps, _SETTING.path = before
        for handle in handles:
            handle.remove()


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention of queries to keys.

    Args:
        q: `(..., N, D)`, any number of leading axes, such as `(B, H)` or `(B, G, H)` with G windows.
        k: `(..., M, D)`.
        v: `(..., M, E)`.
        mask: bool, broadcastable to `(..., N, M)`, True where a query may see a key. A row that may see nothing gives
            zeros.
        bias: Added to the logits, broadcastable to `(..., N, M)`.
        scale: Factor of the logits before the bias, `D ** -0.5` by default.
        causal: Query number i sees keys 0 to i only.
        dropout: Probability that a weight is dropped; pass 0 outside training.

    Returns:
        `(..., N, E)`.
    """
    if causal and (mask is not None or bias is not None or _SETTING.backend == "oracle" or _SETTING.maps is not None):
        lower = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
        mask, causal = lower if mask is None else mask & lower, False
    if _SETTING.maps is not None or _SETTING.backend == "oracle":
        _log_once("oracle")
        return attend_oracle(q, k, v, mask=mask, bias=bias, scale=scale, causal=causal, dropout=dropout)
    if not q.is_cuda and q.ndim >= 4 and _writes_weights(mask, bias):
        weights = math.prod(q.shape[:-1]) * k.shape[-2]

        def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
            return _attend(q, k, v, mask, bias, scale, causal, dropout)

        return in_parts(run, q, k, v, mask, bias, weights=weights)
    return _attend(q, k, v, mask, bias, scale, causal, dropout)


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float | None,
    causal: bool,
    dropout: float,
) -> Tensor:
    alive = None
    if mask is not None:
        alive = mask.any(-1, keepdim=True)  # (..., N or 1, 1)
        mask = mask | ~alive  # a row that sees nothing would be 0/0; it sees all here and is blanked below
    rules = mask
    if bias is not None:
        rules = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, -math.inf)
    if rules is not None and rules.requires_grad and not q.is_cuda:
        # No fused kernel of the CPU gives a gradient to a bias; PyTorch's own way round it takes more passes than this.
        logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
        weights = (logits.add_(rules) if logits.dtype == rules.dtype else logits + rules).softmax(-1)
        out = (functional.dropout(weights, dropout) if dropout else weights).to(v.dtype) @ v
        return out if alive is None else out.masked_fill(~alive, 0.0)
    if rules is not None and rules.ndim < 2:
        rules = rules.expand(1, k.shape[-2])
    lead, width = q.shape[:-2], v.shape[-1]
    if q.shape[-1] != width and not q.is_cuda and not dropout:  # the fused kernel of the CPU knows one width only
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        q, k, v = (functional.pad(part, (0, max(q.shape[-1], width) - part.shape[-1])) for part in (q, k, v))
    if len(lead) > 2:
        q, k, v, rules = _two_leading_axes(q, k, v, rules)
    if _SETTING.backend == "flex" and q.is_cuda and not dropout and q.ndim == 4:
        _log_once("flex")
        out = _flex(q, k, v, rules, scale, causal)
    else:
        _log_once("fused")
        out = functional.scaled_dot_product_attention(q, k, v, rules, dropout, causal, scale=scale)
    out = out.reshape(*lead, *out.shape[-2:])[..., :width]
    return out if alive is None else out.masked_fill(~alive, 0.0)


def _writes_weights(mask: Tensor | None, bias: Tensor | None) -> bool:
    """Whether the CPU writes out weights or rules as large: for a trained bias, and for rules that differ by window."""
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return True
    return any(one is not None and one.ndim >= 4 and one.shape[-4] > 1 for one in (mask, bias))


def attend_oracle(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """What `attend` computes, written out; arguments and result are the same."""
    logits = (q @ k.transpose(-2, -1)) * (q.shape[-1] ** -0.5 if scale is None else scale)  # (..., N, M)
    if bias is not None:
        logits = logits + bias
    if causal:
        lower = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
        mask = lower if mask is None else mask & lower
    weights = token_softmax(logits, mask=mask)
    if dropout:
        weights = functional.dropout(weights, dropout)
    return weights.to(v.dtype) @ v  # (..., N, E)


def token_softmax(logits: Tensor, *, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """Softmax over tokens, for weights that `attend` cannot give.

    Args:
        logits: `(..., N, M)`, or any other layout with the tokens that compete on axis `dim`.
        mask: bool, broadcastable to the logits, True for what may be seen. Where nothing may, the weights are zeros.
        dim: The axis that sums to one.

    Returns:
        Weights of the shape and dtype of the logits.
    """
    if mask is None:
        weights = logits.softmax(dim)
    else:
        hidden = logits.masked_fill(~mask, -math.inf)
        empty = ~mask.any(dim, keepdim=True)
        weights = hidden.masked_fill(empty, 0.0).softmax(dim).masked_fill(empty, 0.0)
    if _SETTING.maps is not None:
        path = _SETTING.path[-1] if _SETTING.path else ""
        _SETTING.maps.setdefault(path, []).append(weights.detach())
    return weights


def _two_leading_axes(
    q: Tensor, k: Tensor, v: Tensor, rules: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Fold `(B, ..., H)` into the two leading axes that the fused kernels know, without repeating rules over the
    batch.
    """
    lead = q.shape[:-2]
    if rules is None or all(size == 1 for size in rules.shape[:-3]):  # by head at most: what is before heads is batch
        folded = None if rules is None else rules.reshape((1,) * (4 - min(rules.ndim, 3)) + rules.shape[-3:])
        return q.flatten(0, -4), k.flatten(0, -4), v.flatten(0, -4), folded
    full = (1,) * (q.ndim - rules.ndim) + rules.shape  # rules that differ by window too: windows are heads
    folded = rules.reshape(full).expand(full[0], *lead[1:], *full[-2:]).flatten(1, -3)
    return q.flatten(1, -3), k.flatten(1, -3), v.flatten(1, -3), folded


def _flex(q: Tensor, k: Tensor, v: Tensor, rules: Tensor | None, scale: float | None, causal: bool) -> Tensor:
    full = None if rules is None else rules.expand(*q.shape[:-1], k.shape[-2])  # (B, H, N, M)

    def rule(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if full is not None and full.dtype == torch.bool:
            score = torch.where(full[batch, head, query, key], score, -math.inf)
        elif full is not None:
            score = score + full[batch, head, query, key]
        return torch.where(query >= key, score, -math.inf) if causal else score

    return _flex_attention()(q, k, v, score_mod=rule, scale=scale)


@cache
def _flex_attention() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _log_once(name: str) -> None:
    if name not in _SETTING.logged and not torch.compiler.is_compiling():
        _SETTING.logged |= {name}
        _LOG.info("attention runs on %s", name)


def _enter(path: str):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, arguments: object) -> None:
        _SETTING.path = (*_SETTING.path, path)

    return hook


def _leave(module: nn.Module, arguments: object, result: object) -> None:
    _SETTING.path = _SETTING.path[:-1]
