"""Arguments of the authors that no reference at hand uses: held against the authors' computation, written out again."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from shared_attention.attend import attend
from shared_attention.published import Given, State, adapter_classes

State_ = dict[str, Tensor]


def ours(fixture: str, constructor: dict, state: State_, x: Tensor, **call: object) -> Tensor:
    adapter = adapter_classes()[fixture](Given(constructor), State(state), {"x": x}, call)
    with torch.no_grad():
        return adapter.run(adapter.load())["out"]


def drawn(shapes: dict[str, tuple[int, ...]]) -> State_:
    generator = torch.Generator().manual_seed(3)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def linear(state: State_, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state: State_, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


DIM, HEADS = 48, 3
WIDTH = DIM // 4 // 4


def crossformer_state(rows: int, *, encoded: bool, cooled: bool) -> State_:
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("norm1", "norm2", *(["norm_cpe"] if encoded else []), *(["ex_ln"] if cooled else [])):
        shapes |= {f"{name}.weight": (DIM,), f"{name}.bias": (DIM,)}
    for name, out, into in (("attn.qkv", 3 * DIM, DIM), ("attn.proj", DIM, DIM), ("mlp.fc1", 2 * DIM, DIM)):
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    shapes |= {"mlp.fc2.weight": (DIM, 2 * DIM), "mlp.fc2.bias": (DIM,)}
    if encoded:
        shapes |= {"cpe.weight": (rows, 1, 3, 3), "cpe.bias": (rows,)}
    else:
        shapes |= {"attn.pos.pos_proj.weight": (WIDTH, 2), "attn.pos.pos_proj.bias": (WIDTH,)}
        for number, out in ((1, WIDTH), (2, WIDTH), (3, HEADS)):
            shapes |= {f"attn.pos.pos{number}.0.weight": (WIDTH,), f"attn.pos.pos{number}.0.bias": (WIDTH,)}
            shapes |= {f"attn.pos.pos{number}.2.weight": (out, WIDTH), f"attn.pos.pos{number}.2.bias": (out,)}
    if cooled:
        shapes |= {"ex_conv.weight": (DIM, 1, 3, 3), "ex_conv.bias": (DIM,)}
    return drawn(shapes)


def crossformer_block(
    state: State_,
    x: Tensor,
    *,
    grid: tuple[int, int],
    group_size: int = 7,
    interval: int = 8,
    lsda_flag: int = 0,
    qk_scale: float | None = None,
    pad_type: int = 0,
    use_extra_conv: bool = True,
    use_cpe: bool = False,
    no_mask: bool = False,
    adaptive_interval: bool = False,
) -> Tensor:
    """One image `(1, H * W, C)`, group by group."""
    if min(grid) <= group_size:
        group_size, lsda_flag = min(grid), 0
    if adaptive_interval:
        interval = -(-grid[0] // group_size)
    step = interval if lsda_flag else 1
    y = norm(state, "norm1", x).view(1, *grid, DIM)
    if use_cpe:  # the published convolution takes rows for channels
        rows = [
            functional.conv2d(y[:, row, None], state["cpe.weight"][row, None], state["cpe.bias"][row, None], padding=1)
            for row in range(grid[0])
        ]
        y = y + norm(state, "norm_cpe", torch.cat(rows, 1))
    short = [-size % (group_size * step) for size in grid]
    before = [one // 2 if pad_type else 0 for one in short]
    padded = torch.zeros(1, *(size + one for size, one in zip(grid, short, strict=True)), DIM)
    inside = (slice(None), *(slice(at, at + size) for at, size in zip(before, grid, strict=True)))
    padded[inside] = y
    real = torch.zeros(padded.shape[:3], dtype=torch.bool)
    real[inside] = True
    members: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for place in torch.cartesian_prod(*(torch.arange(size) for size in padded.shape[1:3])).tolist():
        key = [part for at in place for part in (at // (group_size * step), at % step)]
        members.setdefault(tuple(key), []).append(tuple(place))
    out = torch.zeros_like(padded)
    for places in members.values():
        index = torch.tensor(places)
        tokens = padded[0, index[:, 0], index[:, 1]]  # (n, C)
        q, k, v = linear(state, "attn.qkv", tokens).view(-1, 3, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
        logits = (q * (qk_scale or (DIM // HEADS) ** -0.5)) @ k.transpose(-2, -1)  # (H, n, n)
        if not use_cpe:
            at = index % (group_size * step) // step
            bias = linear(state, "attn.pos.pos_proj", (at[:, None] - at[None]).float())
            for number in (1, 2, 3):
                name = f"attn.pos.pos{number}"
                bias = linear(state, f"{name}.2", norm(state, f"{name}.0", bias).relu())
            logits = logits + bias.permute(2, 0, 1)
        if not no_mask:
            logits = logits + -1e6 * ~real[0, index[:, 0], index[:, 1]]
        mixed = (logits.softmax(-1) @ v).transpose(0, 1).flatten(1)
        out[0, index[:, 0], index[:, 1]] = linear(state, "attn.proj", mixed)
    x = x + out[inside].flatten(1, 2)
    x = x + linear(state, "mlp.fc2", functional.gelu(linear(state, "mlp.fc1", norm(state, "norm2", x))))
    if use_extra_conv:
        image = x.view(1, *grid, DIM).permute(0, 3, 1, 2)
        image = functional.conv2d(image, state["ex_conv.weight"], state["ex_conv.bias"], padding=1, groups=DIM)
        x = norm(state, "ex_ln", image.permute(0, 2, 3, 1).flatten(1, 2))
    return x


@pytest.mark.parametrize(
    ("grid", "arguments"),
    [
        pytest.param((9, 7), {"group_size": 4}, id="near, with a border"),
        pytest.param((9, 7), {"group_size": 4, "no_mask": True}, id="near, the border is seen"),
        pytest.param((9, 11), {"group_size": 3, "interval": 2, "lsda_flag": 1}, id="far, with a border"),
        pytest.param(
            (9, 11), {"group_size": 3, "interval": 2, "lsda_flag": 1, "no_mask": True}, id="far, the border is seen"
        ),
        pytest.param(
            (7, 10), {"group_size": 3, "no_mask": True, "pad_type": 1}, id="centred, the border is seen"
        ),
        pytest.param((5, 11), {"group_size": 3, "interval": 4, "lsda_flag": 1, "no_mask": True}, id="far and small"),
        pytest.param((8, 6), {"group_size": 4, "use_cpe": True}, id="encoded rows"),
        pytest.param((9, 7), {"group_size": 4, "use_cpe": True, "no_mask": True, "qk_scale": 0.1}, id="all at once"),
        pytest.param((9, 11), {"group_size": 4, "lsda_flag": 1, "adaptive_interval": True}, id="adaptive interval"),
        pytest.param((4, 9), {"group_size": 5, "lsda_flag": 1, "qk_scale": 0.7}, id="no larger than the group"),
        pytest.param((6, 6), {"group_size": 3, "use_extra_conv": False, "qk_scale": -0.3}, id="without cooling"),
    ],
)  # fmt: skip
def test_crossformer(grid: tuple[int, int], arguments: dict) -> None:
    state = crossformer_state(
        grid[0], encoded=arguments.get("use_cpe", False), cooled=arguments.get("use_extra_conv", True)
    )
    x = torch.randn(1, grid[0] * grid[1], DIM, generator=torch.Generator().manual_seed(5))
    constructor = {"dim": DIM, "input_resolution": list(grid), "num_heads": HEADS, "mlp_ratio": 2.0} | arguments
    expected = crossformer_block(state, x, grid=grid, **arguments)
    torch.testing.assert_close(ours("crossformer_block", constructor, state, x), expected, rtol=1e-5, atol=1e-5)


SCALED = {
    "swin_window_attention/a": "shared_attention.grouped",
    "swin_block/a": "shared_attention.grouped",
    "crossformer_block/a_sda": "shared_attention.grouped",
    "cswin_block/a": "shared_attention.mechanisms.windows.cswin",
    "cswin_block/c_laststage": "shared_attention.mechanisms.windows.cswin",
    "hat_hab/a_shift": "shared_attention.grouped",
    "hat_ocab/a": "shared_attention.mechanisms.windows.hat_overlap",
    "svit_sta/a": "shared_attention.mechanisms.sparse.super_tokens",
    "svit_layer/a": "shared_attention.mechanisms.sparse.super_tokens",
    "illama_block/a_causal": "shared_attention.mechanisms.heads.soft_causal",
    "rta_tap_block/a": "shared_attention.mechanisms.heads.token_aware_pooling",
}
"""Reference, and where the attention is called."""


@pytest.fixture
def outputs(golden_root: Path) -> Callable[..., dict[str, Tensor]]:
    def run(case: str, adapt: Callable[[torch.nn.Module], object] = lambda module: None, **arguments: object) -> State_:
        folder = golden_root / case
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "io.safetensors")
        given = {name[3:]: value for name, value in tensors.items() if name.startswith("in.")}
        state = {name: one for name, one in load_file(folder / "state.safetensors").items() if name != "_empty"}
        adapter = adapter_classes()[folder.parent.name](
            Given(meta["constructor"] | arguments), State(state), given, meta.get("forward_args") or {}
        )
        module = adapter.load()
        adapt(module)
        with torch.no_grad():
            return adapter.run(module)

    return run


@pytest.mark.parametrize("case", SCALED)
@pytest.mark.parametrize("scale", [0.05, 1.7])
def test_scale_of_the_logits_is_the_one_given(
    case: str, scale: float, outputs: Callable[..., State_], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = outputs(case, qk_scale=scale)
    plain = outputs(case)
    monkeypatch.setattr(importlib.import_module(SCALED[case]), "attend", functools.partial(attend, scale=scale))
    expected = outputs(case)
    torch.testing.assert_close(given["out"], expected["out"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(given["out"], plain["out"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [None, 0])
def test_no_scale_is_the_usual_one(scale: float | None, outputs: Callable[..., State_]) -> None:
    for case in SCALED:
        assert torch.equal(outputs(case, qk_scale=scale)["out"], outputs(case)["out"]), case


def test_sparsifiner_scales_its_attention_and_not_its_guess(outputs: Callable[..., State_]) -> None:
    def rescale(module: torch.nn.Module) -> None:
        module.head_dim = 0.4**-2  # whose inverse root is the scale

    given = outputs("sparsifiner_attention/a", qk_scale=0.4)
    expected = outputs("sparsifiner_attention/a", rescale)
    plain = outputs("sparsifiner_attention/a")
    for name in ("out.x", "out.masked_attn", "out.approx_attn"):
        torch.testing.assert_close(given[name], expected[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given["out.approx_attn"], plain["out.approx_attn"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(given["out.masked_attn"], plain["out.masked_attn"], atol=1e-3)


def test_biformer_without_a_projection_gives_what_the_projection_would_be_given(golden_root: Path) -> None:
    folder = golden_root / "biformer_bra" / "a"
    constructor = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["constructor"]
    state, x = load_file(folder / "state.safetensors"), load_file(folder / "io.safetensors")["in.x"]
    bare = {name: one for name, one in state.items() if not name.startswith("wo.")}
    inner = ours("biformer_bra", constructor | {"param_attention": "qkv"}, bare, x)
    whole = ours("biformer_bra", constructor, state, x)
    torch.testing.assert_close(linear(state, "wo", inner), whole, rtol=1e-5, atol=1e-5)


def test_an_activation_that_is_not_served_is_refused(outputs: Callable[..., State_]) -> None:
    with pytest.raises(ValueError, match="act_layer='SiLU' is not served"):
        outputs("svit_layer/a", act_layer="SiLU")
