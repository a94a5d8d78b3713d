"""Mechanisms of the attention core against the same ones of timm and MONAI: equal weights, equal outputs, in turns.

    python benchmarks/attention_vs_libraries.py [NAME...]     # NAME: part of a contest's name, such as monai or window

Each contest draws the library's weights at random, loads them into ours, checks that both give the same, and then lets
the two run in turns: a forward pass in evaluation mode without gradients, and a forward and backward pass in training
mode. What is told is our time over theirs, turn by turn, as median and middle half; one thread, processor time. Each
gets its tokens in the layout it is made for.

timm is no dependency of the product, and neither is einops, which MONAI's plain attention is made with:
`pip install --no-deps timm einops` puts them beside. It imports torchvision, of which none
of these mechanisms needs anything; where torchvision is missing, an empty stand-in takes its place in this process.
Without them their contests are left out, and the benchmark says so.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch
from measure import environment, parser, print_table, save, spread, told
from torch import Tensor, nn

from shared_attention import build
from shared_attention.published import load_published

__all__ = ["Contest", "contests", "contest_times"]

DIM, HEADS, SIDE, WINDOW = 96, 3, 56, 7
Pass = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Contest:
    """One mechanism twice."""

    name: str
    """`LIBRARY MECHANISM`."""
    ours: nn.Module
    run: Pass
    theirs: nn.Module
    run_theirs: Pass
    x: Tensor
    """In our layout."""
    to_theirs: Pass = Tensor.clone
    """Our layout to theirs."""
    to_ours: Pass = Tensor.clone
    """And back."""


class _Empty(type):
    """Classes that have whatever they are asked for."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Nothing(ModuleType):
    """A module of such classes."""

    __path__: list[str] = []  # noqa: RUF012 - a package says so by this name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _StandIn(MetaPathFinder, Loader):
    """Finds an empty module wherever one of torchvision is asked for."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Nothing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def contests() -> Iterator[Callable[[], Contest]]:
    """Every contest that the installed libraries allow; monai is a dependency, timm is not."""
    if importlib.util.find_spec("einops") is None:
        print("einops is not installed: MONAI's plain attention is left out (pip install einops)")
    else:
        yield from (_monai_self_attention, _monai_cross_attention)
    yield from (partial(_monai_window, rank) for rank in (2, 3))
    if importlib.util.find_spec("timm") is None:
        print("timm is not installed: its contests are left out (pip install --no-deps timm)")
        return
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, _StandIn())
    yield from (_timm_self_attention, _timm_window, _timm_window_v2, _timm_davit_spatial, _timm_davit_channel)
    yield from (partial(_timm_swin_block, shift) for shift in (0, WINDOW // 2))
    yield from (_timm_xca, _timm_halo, _timm_eca, _timm_pool, _timm_reduction, _timm_shvit)
    yield from (partial(_timm_maxvit, kind) for kind in ("block", "grid"))


def tokens(*shape: int) -> Tensor:
    """Random numbers, the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def drawn(module: nn.Module) -> nn.Module:
    """The weights that the library starts with, moved a little: large ones would saturate every softmax, and then
    processors calculate with numbers so small that they are slow with them.
    """
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return module


def _plain(theirs: nn.Module, qkv: str, proj: str) -> nn.Module:
    """Full attention with the weights of a module whose queries, keys and values come from one layer."""
    state = theirs.state_dict()
    ours = build("full", DIM, rank=1, heads=HEADS)
    parts = {f"{layer}.{kind}": state[f"{qkv}.{kind}"] for layer in ("q", "kv") for kind in ("weight", "bias")}
    cut = {name: value[:DIM] if name.startswith("q.") else value[DIM:] for name, value in parts.items()}
    ours.load_state_dict(cut | {f"proj.{kind}": state[f"{proj}.{kind}"] for kind in ("weight", "bias")})
    return ours


def _monai_self_attention() -> Contest:
    from monai.networks.blocks.selfattention import SABlock

    theirs = drawn(SABlock(DIM, HEADS, qkv_bias=True, use_flash_attention=True))
    ours = _plain(theirs, "qkv", "out_proj")
    return Contest("monai full", ours, ours, theirs, theirs, tokens(2, 1024, DIM))


def _monai_cross_attention() -> Contest:
    from monai.networks.blocks.crossattention import CrossAttentionBlock

    theirs = drawn(CrossAttentionBlock(DIM, HEADS, qkv_bias=True, use_flash_attention=True))
    state, context = theirs.state_dict(), tokens(2, 256, DIM)
    ours = build("full", DIM, rank=1, heads=HEADS)
    ours.load_state_dict(
        {f"q.{kind}": state[f"to_q.{kind}"] for kind in ("weight", "bias")}
        | {f"kv.{kind}": torch.cat([state[f"to_{part}.{kind}"] for part in "kv"]) for kind in ("weight", "bias")}
        | {f"proj.{kind}": state[f"out_proj.{kind}"] for kind in ("weight", "bias")}
    )
    return Contest(
        "monai full, of a context",
        ours,
        lambda x: ours(x, context),
        theirs,
        lambda x: theirs(x, context),
        tokens(2, 1024, DIM),
    )


def _windows(name: str, fixture: str, theirs: nn.Module, arguments: Mapping[str, Any], run_theirs: Pass) -> Contest:
    """Windows that were cut already."""
    ours = load_published(fixture, arguments, theirs.state_dict())
    n = theirs.state_dict().get("relative_position_index", torch.empty(WINDOW**2)).shape[0]

    def run(x: Tensor) -> Tensor:
        return ours.attend_windows(x[None], bias=ours.position())[0]  # type: ignore[operator]

    return Contest(name, ours, run, theirs, run_theirs, tokens(SIDE**2 // WINDOW**2, n, DIM))


def _monai_window(rank: int) -> Contest:
    from monai.networks.nets.swin_unetr import WindowAttention

    size = (WINDOW,) * rank
    theirs = drawn(WindowAttention(DIM, HEADS, size, qkv_bias=True))
    ours = build("window", DIM, rank=rank, heads=HEADS, window=size)
    state = theirs.state_dict()
    del state["relative_position_index"]
    state["position.table"] = state.pop("relative_position_bias_table")
    ours.load_state_dict(state)

    def run(x: Tensor) -> Tensor:
        return ours.attend_windows(x[None], bias=ours.position())[0]  # type: ignore[operator]

    x = tokens(64 if rank == 2 else 8, WINDOW**rank, DIM)
    return Contest(f"monai window, {rank}D", ours, run, theirs, lambda x: theirs(x, None), x)


def _timm_self_attention() -> Contest:
    from timm.layers import Attention

    theirs = drawn(Attention(DIM, HEADS, qkv_bias=True))
    ours = _plain(theirs, "qkv", "proj")
    return Contest("timm full", ours, ours, theirs, theirs, tokens(2, 1024, DIM))


def _timm_window() -> Contest:
    from timm.models.swin_transformer import WindowAttention

    theirs = drawn(WindowAttention(DIM, HEADS, window_size=WINDOW))
    arguments = {"dim": DIM, "num_heads": HEADS, "window_size": WINDOW}
    return _windows("timm window", "swin_window_attention", theirs, arguments, theirs)


def _timm_window_v2() -> Contest:
    from timm.models.swin_transformer_v2 import WindowAttention

    theirs = drawn(WindowAttention(DIM, (WINDOW, WINDOW), HEADS))
    arguments = {"dim": DIM, "num_heads": HEADS, "window_size": (WINDOW, WINDOW)}
    return _windows("timm window_v2", "swinv2_window_attention", theirs, arguments, theirs)


def _timm_swin_block(shift: int) -> Contest:
    from timm.models.swin_transformer import SwinTransformerBlock

    sizes = {"num_heads": HEADS, "window_size": WINDOW, "shift_size": shift}
    theirs = drawn(SwinTransformerBlock(DIM, (SIDE, SIDE), **sizes))
    arguments = {"dim": DIM, "input_resolution": (SIDE, SIDE), **sizes}
    ours = load_published("swin_block", arguments, theirs.state_dict())
    name = "timm window, block, shifted" if shift else "timm window, block"
    return Contest(name, ours, ours, theirs, theirs, tokens(1, SIDE, SIDE, DIM))


def _timm_davit_spatial() -> Contest:
    from timm.models.davit import WindowAttention

    theirs = drawn(WindowAttention(DIM, (WINDOW, WINDOW), HEADS))
    ours = build("davit_spatial", DIM, rank=2, heads=HEADS, window=WINDOW)
    ours.load_state_dict(theirs.state_dict())

    def run(x: Tensor) -> Tensor:
        return ours.attend_windows(x[None])[0]  # type: ignore[operator]

    return Contest("timm davit_spatial", ours, run, theirs, theirs, tokens(64, WINDOW**2, DIM))


def _timm_davit_channel() -> Contest:
    from timm.models.davit import ChannelAttention

    theirs = drawn(ChannelAttention(DIM, HEADS, qkv_bias=True))
    arguments = {"dim": DIM, "num_heads": HEADS, "qkv_bias": True}
    ours = load_published("davit_channel_attention", arguments, theirs.state_dict())
    return Contest("timm davit_channel", ours, ours, theirs, theirs, tokens(1, SIDE**2, DIM))


def _timm_xca() -> Contest:
    from timm.models.xcit import XCA

    theirs = drawn(XCA(DIM, HEADS, qkv_bias=True))
    arguments = {"dim": DIM, "num_heads": HEADS, "qkv_bias": True}
    ours = load_published("daeformer_channel_attn", arguments, theirs.state_dict())
    return Contest("timm xca", ours, ours, theirs, theirs, tokens(1, SIDE**2, DIM))


def _images(name: str, ours: nn.Module, theirs: nn.Module, dim: int = DIM) -> Contest:
    """Theirs takes channels first."""
    return Contest(
        name,
        ours,
        ours,
        theirs,
        theirs,
        tokens(1, SIDE, SIDE, dim),
        to_theirs=lambda x: x.movedim(-1, 1).contiguous(),
        to_ours=lambda out: out.movedim(1, -1),
    )


def _timm_halo() -> Contest:
    from timm.layers.halo_attn import HaloAttn

    theirs = drawn(HaloAttn(DIM, num_heads=HEADS, block_size=8, halo_size=3))
    arguments = {"dim": DIM, "num_heads": HEADS, "block_size": 8, "halo_size": 3}
    return _images("timm halo", load_published("halo_attention", arguments, theirs.state_dict()), theirs)


def _timm_eca() -> Contest:
    from timm.layers import EcaModule

    theirs = drawn(EcaModule(kernel_size=3))
    ours = load_published("eca", {"channel": DIM, "k_size": 3}, theirs.state_dict())
    return _images("timm eca", ours, theirs)


def _timm_pool() -> Contest:
    from timm.models.metaformer import Pooling

    return _images("timm poolformer", build("poolformer", DIM, rank=2, kernel=3), Pooling(3))


def _timm_reduction() -> Contest:
    from timm.models.pvt_v2 import Attention

    theirs = drawn(Attention(DIM, HEADS, sr_ratio=4))
    names = {"sr": "coarser.reduce.conv", "norm": "coarser.norm"}
    state = {
        f"{names.get(layer, layer)}.{kind}": value
        for (layer, _, kind), value in ((key.partition("."), value) for key, value in theirs.state_dict().items())
    }
    ours = build("spatial_reduction", DIM, rank=2, heads=HEADS, ratio=4)
    ours.load_state_dict(state)
    return Contest(
        "timm spatial_reduction",
        ours,
        lambda x: ours(x.unflatten(1, (SIDE, SIDE))).flatten(1, 2),
        theirs,
        lambda x: theirs(x, [SIDE, SIDE]),
        tokens(1, SIDE**2, DIM),
    )


def _timm_shvit() -> Contest:
    from timm.models.shvit import SHSA

    theirs = drawn(SHSA(DIM, qk_dim=16, pdim=32))
    ours = load_published("shvit_shsa", {"dim": DIM, "qk_dim": 16, "pdim": 32}, theirs.state_dict())
    return _images("timm single_head", ours, theirs)


def _timm_maxvit(kind: str) -> Contest:
    from timm.models.maxxvit import MaxxVitTransformerCfg, PartitionAttentionCl

    config = MaxxVitTransformerCfg(dim_head=DIM // HEADS, window_size=(WINDOW, WINDOW), grid_size=(WINDOW, WINDOW))
    theirs = drawn(PartitionAttentionCl(DIM, kind, config))
    state = {name: value for name, value in theirs.state_dict().items() if not name.endswith("relative_position_index")}
    arguments = {
        "dim": DIM,
        "partition_type": kind,
        "cfg": {"dim_head": DIM // HEADS, "window_size": WINDOW, "grid_size": WINDOW},
    }
    ours = load_published("maxvit_partition_attention", arguments, state)
    return Contest(f"timm maxvit, {kind}", ours, ours, theirs, theirs, tokens(1, SIDE, SIDE, DIM))


def contest_times(contest: Contest, turns: int, *, training: bool) -> dict[str, list[float]]:
    """Seconds of `ours` and `theirs` in each turn, whoever goes first changing from turn to turn.

    Raises:
        ValueError: They do not give the same.
    """
    sides: dict[str, tuple[nn.Module, Pass, Tensor]] = {
        "ours": (contest.ours, contest.run, contest.x),
        "theirs": (contest.theirs, contest.run_theirs, contest.to_theirs(contest.x)),
    }
    outputs = {name: _pass(*side, training=False)[0] for name, side in sides.items()}
    apart = (outputs["ours"] - contest.to_ours(outputs["theirs"])).abs().max().item()
    if not apart <= 1e-4 * (1 + outputs["ours"].abs().max().item()):
        raise ValueError(f"{contest.name}: outputs are {apart:.2g} apart")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 2):
        for name in list(sides) if turn % 2 == 0 else reversed(sides):
            took = _pass(*sides[name], training=training)[1]
            if turn > 1:  # the first two warm up
                seconds[name].append(took)
    return seconds


def _pass(module: nn.Module, run: Pass, x: Tensor, *, training: bool) -> tuple[Tensor, float]:
    module.train(training).zero_grad()
    given = x.detach().requires_grad_(training)
    began = time.process_time()
    with torch.set_grad_enabled(training):
        out = run(given)
    if training:
        out.backward(torch.ones_like(out))
    return out.detach(), time.process_time() - began


def main() -> None:
    made = parser(__doc__ or "", turns=21)
    made.add_argument("names", nargs="*", help="parts of names of contests; all by default")
    options = made.parse_args()
    torch.set_num_threads(1)
    about, results = environment(), {}
    for make in contests():
        contest = make()
        if options.names and not any(part in contest.name for part in options.names):
            continue
        row: dict[str, Any] = {}
        for kind in ("forward", "training"):
            seconds = contest_times(contest, 3 if options.quick else options.turns, training=kind == "training")
            ratios = [a / b for a, b in zip(seconds["ours"], seconds["theirs"], strict=True)]
            row[kind] = {"ratio": ratios, **seconds}
        results[contest.name] = row
        print(f"{contest.name}: " + ", ".join(f"{kind} {told(row[kind]['ratio'])}" for kind in row), flush=True)
    columns = [f"{kind}: {what}" for kind in ("forward", "training") for what in ("ours ms", "ours / theirs")]
    print_table(
        ("contest", *columns),
        [
            [
                name,
                *(
                    cell
                    for kind in ("forward", "training")
                    for cell in (f"{1e3 * spread(row[kind]['ours'])['median']:.2f}", told(row[kind]["ratio"]))
                ),
            ]
            for name, row in results.items()
        ],
    )
    save(options, "attention_vs_libraries", about, results)


if __name__ == "__main__":
    main()
