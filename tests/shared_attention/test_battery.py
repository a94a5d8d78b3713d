"""One battery over the whole registry: no mechanism escapes it."""

from __future__ import annotations

import copy
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from shared_attention import Pair, Pool, Reducer, TokenMixer, build, cards, record_attention, use_backend
from shared_attention.published import adapter_classes
from shared_attention.testing import Subject, subjects, variants

ORACLES = Path(__file__).parent / "oracles"
CONTRACTS = {"mixer": TokenMixer, "gate": TokenMixer, "pool": Pool, "pair": Pair, "reducer": Reducer}

every_rank = pytest.mark.parametrize("subject", [pytest.param(one, id=str(one)) for one in subjects()])
every_variant = pytest.mark.parametrize("subject", [pytest.param(one, id=str(one)) for one in variants()])
every_card = pytest.mark.parametrize("name", list(cards()))
small_forms = {name: next(one for one in variants() if one.name == name) for name in cards()}
every_small = pytest.mark.parametrize("subject", [pytest.param(one, id=str(one)) for one in small_forms.values()])


def some_mask(x: Tensor) -> Tensor:
    """Real tokens of each row: all but some scattered ones, at least one."""
    mask = torch.rand(x.shape[:-1], generator=torch.Generator().manual_seed(5)) > 0.3
    mask.flatten(1)[:, 0] = True
    return mask


def hidden(x: Tensor, mask: Tensor, value: float) -> Tensor:
    return x.masked_fill(~mask.unsqueeze(-1), value)


def close(first: tuple[Tensor, ...], second: tuple[Tensor, ...], tolerance: float) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@every_card
def test_card_says_what_is_true_of_its_class(name: str) -> None:
    one = cards()[name]
    assert one.mechanism is not None
    assert issubclass(one.mechanism, CONTRACTS[one.kind])
    assert one.mechanism.__module__.endswith(f".{one.family}.{name}"), "a mechanism lives in the file of its name"
    for key, argument in one.arguments.items():
        assert argument.accepts(argument.default), key
        assert argument.description.endswith("."), key
    assert one.small.keys() <= one.arguments.keys()
    assert all(layer.keys() <= one.arguments.keys() for layer in one.alternation)
    assert one.formula, "the formula is on the card"
    assert math.isfinite(one.cost_of(N=64, C=32, rank=max(one.ranks)))
    if "causal" in one.patterns and "self" in one.patterns:
        assert "causal" in one.arguments


@every_card
def test_every_reference_of_a_card_has_an_adapter_that_names_the_card(name: str) -> None:
    for fixture in cards()[name].fixtures:
        assert adapter_classes()[fixture].mechanism == name


@every_rank
def test_grids_of_any_size_keep_their_shape(subject: Subject) -> None:
    module = subject.module()
    sizes = (1, 2, 3, 7, 8, 11)
    for start in range(len(sizes)):
        grid = tuple(sizes[(start + 2 * axis) % len(sizes)] for axis in range(subject.rank))
        x = subject.tokens(1, grid=grid)
        outputs = subject.run(module, x)
        assert all(out.isfinite().all() and out.dtype == x.dtype for out in outputs), grid
        if isinstance(module, (TokenMixer, Pair)):
            assert all(out.shape == x.shape for out in outputs), grid


@every_card
def test_channels_and_rank_alone_are_enough(name: str) -> None:
    one = cards()[name]
    for dim in (4, 6, 12, 40):
        subject = Subject(name, min(one.ranks), dim=dim)
        outputs = subject.run(subject.module(), subject.tokens(1))
        assert all(out.isfinite().all() for out in outputs), dim


@every_card
def test_wrong_input_is_refused_with_what_is_allowed(name: str) -> None:
    subject = small_forms[name]
    module, x = subject.module(), subject.tokens()
    first = next(iter({"x_mask": 0} if isinstance(module, Pair) else {"mask": 0}))
    rest = (subject.other(x),) if isinstance(module, Pair) else ()
    wrong = {
        "grid axes, this was built for": (x.unsqueeze(1), {}),
        "channels in its last axis, this was built for 16": (x[..., :-1], {}),
        "holds no tokens": (x[:, :0], {}),
        "allowed are floating point": (x.long(), {}),
        "allowed is torch.bool": (x, {first: torch.ones(x.shape[:-1])}),
        "does not fit x": (x, {first: torch.ones(x.shape[0], 1, dtype=torch.bool)}),
    }
    for message, (tokens, options) in wrong.items():
        with pytest.raises(ValueError, match=message):
            module(tokens, *rest, **options)
    if isinstance(module, TokenMixer) and not subject.card.crosses:
        with pytest.raises(ValueError, match=f"{name} takes no context"):
            module(x, x)


@every_card
def test_wrong_arguments_are_refused_with_what_is_allowed(name: str) -> None:
    one = cards()[name]
    kind = "mixer" if one.kind == "gate" else one.kind
    rank = min(one.ranks)
    with pytest.raises(ValueError, match="takes no argument 'nonsense'"):
        build(name, 16, rank=rank, kind=kind, nonsense=1)
    with pytest.raises(ValueError, match="dim 0 is not above zero"):
        build(name, 0, rank=rank, kind=kind)
    for missing in {1, 2, 3, 4} - one.ranks:
        with pytest.raises(ValueError, match=f"{name} serves grids of .* axes, not {missing}"):
            build(name, 16, rank=missing, kind=kind)
    for key, argument in one.arguments.items():
        with pytest.raises(ValueError, match=rf"{name}: {key} .* does not fit, allowed is"):
            build(name, 16, rank=rank, kind=kind, **{key: object()})
        if isinstance(argument.default, int) and not isinstance(argument.default, bool):
            with pytest.raises(ValueError, match=key):
                build(name, 16, rank=rank, kind=kind, **{key: -3})


@every_variant
def test_fused_attention_equals_the_written_out_form(subject: Subject) -> None:
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64)
    for mask in (None, some_mask(x)):
        with use_backend("oracle"):
            expected = subject.run(module, x, mask)
        close(subject.run(module, x, mask), expected, 1e-10)


@pytest.mark.parametrize("subject", [pytest.param(one, id=str(one)) for one in subjects() + variants()])
def test_mechanism_equals_its_oracle(subject: Subject) -> None:
    path = ORACLES / f"{subject.name}.py"
    if not path.exists():
        pytest.skip("no oracle is written for it")
    spec = importlib.util.spec_from_file_location(f"oracle_of_{subject.name}", path)
    assert spec is not None
    assert spec.loader is not None
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    grid = {1: (7,), 2: (5, 6), 3: (3, 5, 2)}[subject.rank]
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64, grid=grid)
    for mask in (None, some_mask(x)):
        expected = oracle.oracle(module, x, mask)
        close(subject.run(module, x, mask), expected if isinstance(expected, tuple) else (expected,), 1e-10)


@pytest.mark.parametrize("subject", [pytest.param(one, id=str(one)) for one in subjects() + variants()])
def test_padding_is_inert(subject: Subject) -> None:
    module, x = subject.module(), subject.tokens()
    mask = some_mask(x)
    expected = subject.run(module, hidden(x, mask, 0.0), mask)
    for value in (1e4, float("nan"), float("inf")):
        for one, other in zip(expected, subject.run(module, hidden(x, mask, value), mask), strict=True):
            assert torch.equal(one, other), value
    if isinstance(module, (TokenMixer, Pair)):
        assert all((out[~mask] == 0).all() for out in expected)
    close(subject.run(module, x, torch.ones_like(mask)), subject.run(module, x), 1e-5)


@every_rank
def test_row_without_a_real_token_gives_zeros_and_leaves_the_others(subject: Subject) -> None:
    module, x = subject.module(torch.float64), subject.tokens(3, torch.float64)
    mask = some_mask(x)
    mask[1] = False
    x.requires_grad_(True)
    outputs = subject.run(module, x, mask)
    sum(out.square().sum() for out in outputs).backward()
    assert all((out[1] == 0).all() and out.isfinite().all() for out in outputs)
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[~mask] == 0).all()
    for row in (0, 2):
        alone = subject.run(module, x[row : row + 1], mask[row : row + 1])
        close(tuple(out[row : row + 1] for out in outputs), alone, 1e-9)


@every_variant
def test_order_matters_only_where_the_card_says_so(subject: Subject) -> None:
    if subject.arguments.get("causal"):
        pytest.skip("what is causal depends on order")
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64)
    mask = some_mask(x)
    order = torch.randperm(x[0, ..., 0].numel(), generator=torch.Generator().manual_seed(2))

    def shuffled(values: Tensor, trailing: int) -> Tensor:
        last = -1 - trailing
        return values.flatten(1, last)[:, order].view(values.shape)

    expected = subject.run(module, x, mask)
    same = isinstance(module, (TokenMixer, Pair))
    expected = tuple(shuffled(out, 1) for out in expected) if same else expected
    given = subject.run(module, shuffled(x, 1), shuffled(mask, 0))
    if not subject.card.ordered:
        close(given, expected, 1e-9)
    else:
        assert any(not torch.allclose(one, other, atol=1e-6) for one, other in zip(given, expected, strict=True))


@every_small
def test_padding_equals_absence_where_order_does_not_matter(subject: Subject) -> None:
    if subject.card.ordered or 1 not in subject.card.ranks:
        pytest.skip("places matter")
    line = Subject(subject.name, 1, subject.arguments)
    module, x = line.module(torch.float64), line.tokens(1, torch.float64)
    mask = some_mask(x)
    padded = line.run(module, x, mask)
    short = line.run(module, x[mask][None])
    same = isinstance(module, (TokenMixer, Pair))
    close(tuple(out[mask][None] for out in padded) if same else padded, short, 1e-9)


@every_card
def test_grid_of_height_one_is_a_line_where_the_card_says_so(name: str) -> None:
    if not cards()[name].flat:
        pytest.skip("the card does not say so")
    line, plane = Subject(name, 1), Subject(name, 2)
    one, two = line.module(torch.float64), plane.module(torch.float64)
    two.load_state_dict(one.state_dict())
    x = line.tokens(dtype=torch.float64)
    mask = some_mask(x)
    expected = line.run(one, x, mask)
    given = plane.run(two, x[:, None], mask[:, None])
    close(tuple(out.flatten(1, -2) for out in given), expected, 1e-10)


@every_card
def test_causal_tokens_do_not_see_what_comes_after(name: str) -> None:
    one = cards()[name]
    if "causal" not in one.patterns:
        pytest.skip("not causal")
    options = {**one.small, "causal": True} if "causal" in one.arguments else dict(one.small)
    for rank in one.ranks:
        subject = Subject(name, rank, options)
        module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64)
        later = x.clone()
        later.flatten(1, -2)[:, 7:] = subject.tokens(dtype=torch.float64, seed=9).flatten(1, -2)[:, 7:]
        before, after = (module(tokens).flatten(1, -2) for tokens in (x, later))
        close((after[:, :7],), (before[:, :7],), 1e-10)
        assert not torch.allclose(after[:, 7:], before[:, 7:])


@every_card
def test_context_is_what_is_looked_at(name: str) -> None:
    one = cards()[name]
    if one.kind not in ("mixer", "gate") or not one.crosses:
        pytest.skip("takes no context")
    for pattern in sorted({"cross", "causal cross"} & set(one.patterns)):
        options = dict(one.small) | ({"causal": pattern == "causal cross"} if "causal" in one.arguments else {})
        subject = Subject(name, min(one.ranks), options)
        module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64)
        context = subject.tokens(dtype=torch.float64, seed=7)
        mask = some_mask(context)
        out = module(x, context, context_mask=mask)
        assert out.shape == x.shape
        assert torch.equal(out, module(x, hidden(context, mask, 1e4), context_mask=mask)), (
            "padding of a context is inert"
        )
        assert not torch.allclose(out, module(x, context * 2, context_mask=mask)), "a context changes the output"
        empty = module(x, context, context_mask=torch.zeros_like(mask))
        assert empty.isfinite().all()
        if pattern == "causal cross":
            later = context.clone()
            later.flatten(1, -2)[:, 7:] += 3
            before, after = (module(x, given).flatten(1, -2)[:, :7] for given in (context, later))
            close((after,), (before,), 1e-10)
        with pytest.raises(ValueError, match="has a batch of 1"):
            module(x, context[:1])
        with pytest.raises(ValueError, match="context_mask is given without a context"):
            module(x, context_mask=mask)


@every_variant
def test_every_parameter_gets_a_gradient(subject: Subject) -> None:
    module, x = subject.module(torch.float64, training=True), subject.tokens(dtype=torch.float64)
    x.requires_grad_(True)
    sum(out.square().sum() for out in subject.run(module, x)).backward()
    for name, tensor in [*module.named_parameters(), ("x", x)]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


@every_small
def test_gradients_are_those_of_the_output(subject: Subject) -> None:
    if subject.card.stops_gradient:
        pytest.skip("gradients are stopped on purpose")
    module = subject.module(torch.float64)
    x = subject.tokens(1, torch.float64, grid=(3, 4, 2)[: subject.rank]).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda tokens: subject.run(module, tokens), (x,), fast_mode=True)


@every_variant
def test_bfloat16_is_close(subject: Subject) -> None:
    module, x = subject.module(), subject.tokens()
    mask = some_mask(x)
    expected = subject.run(module, x, mask)
    given = subject.run(copy.deepcopy(module).bfloat16(), x.bfloat16(), mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = subject.run(module, x, mask)
    for one, low, cast in zip(expected, given, mixed, strict=True):
        assert low.dtype == torch.bfloat16
        assert low.isfinite().all()
        assert cast.isfinite().all()
        if not subject.card.selects:
            for other in (low, cast):
                assert (one - other.float()).norm() <= 0.05 * one.norm() + 1e-3


@every_variant
def test_is_traced_whole(subject: Subject) -> None:
    torch._dynamo.reset()
    module, x = subject.module(), subject.tokens()
    traced = torch.compile(module, fullgraph=True, backend="eager")
    mask = some_mask(x)
    close(subject.run(traced, x, mask), subject.run(module, x, mask), 1e-5)


@every_small
def test_state_goes_through_a_file_and_back(subject: Subject) -> None:
    module, x = subject.module(), subject.tokens()
    other = subject.card.mechanism(subject.dim, rank=subject.rank, **subject.arguments).eval()  # type: ignore[misc]
    other.load_state_dict(load(save({key: value.contiguous() for key, value in module.state_dict().items()})))
    for one, same in zip(subject.run(module, x), subject.run(other, x), strict=True):
        assert torch.equal(one, same)


@every_small
def test_layout_and_batch_change_nothing(subject: Subject) -> None:
    module, x = subject.module(torch.float64), subject.tokens(3, torch.float64)
    expected = subject.run(module, x)
    turned = x.movedim(-1, 1).contiguous().movedim(1, -1)
    close(subject.run(module, turned), expected, 1e-10)
    close(subject.run(module, x[1:2]), tuple(out[1:2] for out in expected), 1e-10)


@every_small
def test_recording_attention_changes_nothing(subject: Subject) -> None:
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64)
    expected = subject.run(module, x)
    with record_attention(module) as maps:
        close(subject.run(module, x), expected, 1e-10)
    for found in maps.values():
        assert all(one.isfinite().all() and not one.requires_grad for one in found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, met while inductor is imported
@pytest.mark.parametrize("family", sorted({one.family for one in cards().values()}))
def test_one_of_each_family_is_compiled_by_inductor(family: str) -> None:
    torch._dynamo.reset()
    name = min(key for key, one in cards().items() if one.family == family)
    subject = small_forms[name]
    module, x = subject.module(), subject.tokens()
    with torch.no_grad():  # half of the code to compile; gradients are those of the same traced operations
        close(subject.run(torch.compile(module, fullgraph=True, dynamic=False), x), subject.run(module, x), 1e-4)
