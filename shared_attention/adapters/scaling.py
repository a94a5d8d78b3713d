"""What several adapters do with `qk_scale`: the weights of the queries take it up, so that ours keep their scale.

The logits are the same, and so is what a gradient step in the other parameters does; only the queries are stored in
another unit than the authors'.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ["scaled_queries"]


def scaled_queries(
    state: Mapping[str, Tensor], layer: str, scale: float | None, *, dim: int, head_dim: int
) -> dict[str, Tensor]:
    """Our state with a scale of the logits in the place of `head_dim ** -0.5`.

    Args:
        state: Under our names.
        layer: The linear layer whose first `dim` outputs are the queries.
        scale: The authors' `qk_scale`; None and 0 stand for the usual one, as with them.
        dim: Channels of the queries of all heads.
        head_dim: Channels of one head.
    """
    if not scale:
        return dict(state)
    factor = scale * head_dim**0.5
    changed = {}
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name in state:
            changed[name] = state[name].clone()
            changed[name][:dim] *= factor
    return {**state, **changed}
