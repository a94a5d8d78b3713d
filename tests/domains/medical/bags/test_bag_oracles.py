"""Every bag network against the same thing written once more: loops over instances in NumPy, from the papers' formulas.

The references in `golden` are one case each; here are other sizes, one instance, several classes and several labels,
subtyping, and every way to distil.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from domains.medical.bags.networks.abmil import AttentionBags
from domains.medical.bags.networks.acmil import ChallengingBags
from domains.medical.bags.networks.acmil_heads import ChallengingHeads, QueryBags
from domains.medical.bags.networks.clam import ClusteredBags
from domains.medical.bags.networks.contract import Aggregator, BagOutput
from domains.medical.bags.networks.dsmil import DualStreamBags
from domains.medical.bags.networks.dtfd import DoubleTierBags
from domains.medical.bags.networks.transmil import TransformerBags

Array = NDArray[np.float64]
Weights = dict[str, Array]
F = 7


def ready(network: Aggregator, seed: int = 0) -> tuple[Aggregator, Weights]:
    """The network with weights far from their start, in float64, and these weights by name."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    network = network.double()
    return network, {name: value.numpy() for name, value in network.state_dict().items()}


def draw(count: int, seed: int = 1) -> torch.Tensor:
    """A bag `(1, N, F)`."""
    return torch.randn(1, count, F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(p: Weights, name: str, x: Array) -> Array:
    return p[f"{name}.weight"] @ x + p.get(f"{name}.bias", 0.0)


def embed(p: Weights, bag: torch.Tensor) -> list[Array]:
    return [np.maximum(linear(p, "embed.0", instance), 0) for instance in bag[0].numpy()]


def softmax(scores: list[float]) -> Array:
    powers = np.array([np.exp(score - max(scores)) for score in scores])
    return powers / powers.sum()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gated(p: Weights, name: str, tokens: list[Array], branch: int = 0) -> list[float]:
    scores = []
    for token in tokens:
        hidden = np.tanh(linear(p, f"{name}.content", token)) * sigmoid(linear(p, f"{name}.gate", token))
        scores.append(float(linear(p, f"{name}.score", hidden)[branch]))
    return scores


def mean_under(weights: Array, tokens: list[Array]) -> Array:
    return sum((weight * token for weight, token in zip(weights, tokens, strict=True)), np.zeros_like(tokens[0]))


def penalty(logits: Array, label: int | list[int]) -> float:
    """Cross-entropy of a class, or the mean binary cross-entropy of several labels."""
    if isinstance(label, int):
        return float(np.log(np.exp(logits).sum()) - logits[label])
    parts = [-np.log(sigmoid(one) if flag else 1 - sigmoid(one)) for one, flag in zip(logits, label, strict=True)]
    return float(np.mean(parts))


def learned(network: Aggregator, output: BagOutput, label: int | list[int]) -> dict[str, float]:
    """The losses of a network for a batch of one."""
    if isinstance(label, int):
        losses = network.losses(output, torch.tensor([label]), cross_entropy)
    else:
        target = torch.tensor([label], dtype=torch.float64)
        losses = network.losses(output, target, binary_cross_entropy_with_logits)
    return {name: float(value.detach()) for name, value in losses.items()}


def agree(output: BagOutput, logits: Array, attention: Array | None = None) -> None:
    np.testing.assert_allclose(output.logits[0].detach().numpy(), logits, rtol=1e-9, atol=1e-10)
    if attention is not None:
        assert output.attention is not None
        np.testing.assert_allclose(output.attention[0].detach().numpy(), attention, rtol=1e-9, atol=1e-10)


COUNTS = pytest.mark.parametrize("count", [1, 5, 23])
LABELS = pytest.mark.parametrize(
    ("classes", "label"),
    [
        pytest.param(2, 1, id="two classes"),
        pytest.param(4, 2, id="four classes"),
        pytest.param(3, [1, 0, 1], id="three labels"),
        pytest.param(3, [0, 0, 0], id="no label"),
    ],
)


@COUNTS
@LABELS
def test_gated_attention(count: int, classes: int, label: int | list[int]) -> None:
    network, p = ready(AttentionBags(F, classes, hidden=(5,), attention_hidden=3))
    bag = draw(count)
    tokens = embed(p, bag)
    weights = softmax(gated(p, "pool", tokens))
    output = network(bag)
    logits = linear(p, "head", mean_under(weights, tokens))
    agree(output, logits, weights[None])
    assert learned(network, output, label)["loss"] == pytest.approx(penalty(logits, label))


@COUNTS
@LABELS
@pytest.mark.parametrize("branches", [1, 3])
def test_acmil_with_its_highest_instances_hidden(
    count: int, classes: int, label: int | list[int], branches: int
) -> None:
    arguments: dict[str, Any] = {"branches": branches, "masked": 4, "mask_share": 1.0, "diversity": 0.7}
    network, p = ready(ChallengingBags(F, classes, hidden=(5,), attention_hidden=3, **arguments))
    bag = draw(count)
    tokens = embed(p, bag)
    rows = []
    for branch in range(branches):
        scores = gated(p, "pool", tokens, branch)
        hidden = sorted(range(count), key=lambda place: -scores[place])[:4]
        rows.append(softmax([-1e9 if place in hidden else score for place, score in enumerate(scores)]))
    output = network.train()(bag)
    logits = linear(p, "head", mean_under(np.mean(rows, axis=0), tokens))
    agree(output, logits, np.array(rows))
    heads = [
        penalty(linear(p, f"branch_heads.{branch}", mean_under(row, tokens)), label) for branch, row in enumerate(rows)
    ]
    pairs = [(one, other) for number, one in enumerate(rows) for other in rows[number + 1 :]]
    alike = [one @ other / np.sqrt((one @ one) * (other @ other)) for one, other in pairs]
    expected = penalty(logits, label) + (np.mean(heads) + 0.7 * np.mean(alike) if branches > 1 else 0.0)
    assert learned(network, output, label)["loss"] == pytest.approx(expected)


def looks(p: Weights, name: str, query: Array, tokens: list[Array], heads: int) -> Array:
    """Attention of each head `(H, N)`."""
    asking = linear(p, f"{name}.query", query).reshape(heads, -1)
    keys = [linear(p, f"{name}.key", token).reshape(heads, -1) for token in tokens]
    size = asking.shape[1]
    return np.array([softmax([asking[head] @ key[head] / np.sqrt(size) for key in keys]) for head in range(heads)])


def gathered(p: Weights, name: str, weights: Array, tokens: list[Array]) -> Array:
    values = [linear(p, f"{name}.value", token).reshape(len(weights), -1) for token in tokens]
    joined = np.concatenate([mean_under(row, [value[head] for value in values]) for head, row in enumerate(weights)])
    out = linear(p, f"{name}.proj", joined)
    normal = (out - out.mean()) / np.sqrt(out.var() + 1e-6)
    return normal * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]


@COUNTS
@pytest.mark.parametrize(("heads", "branches"), [(1, 2), (3, 4)])
def test_acmil_with_heads(count: int, heads: int, branches: int) -> None:
    network, p = ready(ChallengingHeads(F, 3, hidden=(6,), heads=heads, branches=branches, mask_share=0, dropout=0))
    bag = draw(count)
    tokens = embed(p, bag)
    every = np.array([looks(p, f"looks.{k}", p["queries"][0, k], tokens, heads) for k in range(branches)])  # (K, H, N)
    output = network(bag)
    logits = linear(p, "head", gathered(p, "bag_look", every.mean(0), tokens))
    agree(output, logits, every.mean(1))
    parts = [linear(p, f"branch_heads.{k}", gathered(p, f"looks.{k}", every[k], tokens)) for k in range(branches)]
    alike = [
        every[one, head] @ every[other, head] / np.linalg.norm(every[one, head]) / np.linalg.norm(every[other, head])
        for head in range(heads)
        for one in range(branches)
        for other in range(one + 1, branches)
    ]
    expected = penalty(logits, 2) + np.mean([penalty(part, 2) for part in parts]) + np.mean(alike)
    assert learned(network, output, 2)["loss"] == pytest.approx(expected)


@COUNTS
def test_one_query(count: int) -> None:
    network, p = ready(QueryBags(F, 2, hidden=(6,), heads=2, dropout=0))
    bag = draw(count)
    tokens = embed(p, bag)
    weights = looks(p, "look", p["query"][0, 0], tokens, 2)
    agree(network(bag), linear(p, "head", gathered(p, "look", weights, tokens)), weights.mean(0)[None])


@pytest.mark.parametrize("count", [2, 9])
@LABELS
@pytest.mark.parametrize("by_class", [False, True], ids=["single branch", "branch by class"])
@pytest.mark.parametrize("subtyping", [False, True, None])
def test_clam(count: int, classes: int, label: int | list[int], by_class: bool, subtyping: bool | None) -> None:
    arguments: dict[str, Any] = {"instances": 3, "bag_weight": 0.6, "dropout": 0, "subtyping": subtyping}
    network, p = ready(ClusteredBags(F, classes, hidden=5, attention_hidden=4, by_class=by_class, **arguments))
    bag = draw(count)
    tokens = embed(p, bag)
    rows = [softmax(gated(p, "pool", tokens, branch)) for branch in range(classes if by_class else 1)]
    output = network(bag)
    pooled = [mean_under(row, tokens) for row in rows]
    if by_class:
        logits = np.array([linear(p, f"heads.{number}", one)[0] for number, one in enumerate(pooled)])
    else:
        logits = linear(p, "heads.0", pooled[0])
    agree(output, logits, np.array(rows))

    exclusive = classes > 2 if subtyping is None else subtyping
    is_of = [label == number for number in range(classes)] if isinstance(label, int) else [bool(flag) for flag in label]
    total = 0.0
    for number in range(classes):
        row = rows[number if by_class else 0]
        order = sorted(range(count), key=lambda place, row=row: -row[place])
        highest, lowest = order[:3], order[::-1][:3]
        taught = [(place, 1) for place in highest] + [(place, 0) for place in lowest] if is_of[number] else []
        if not is_of[number] and exclusive:
            taught = [(place, 0) for place in highest]
        if taught:
            parts = [penalty(linear(p, f"instance_heads.{number}", tokens[place]), what) for place, what in taught]
            total += float(np.mean(parts))
    total = total / classes if exclusive else total
    found = learned(network, output, label)
    assert found.get("instance_loss") == pytest.approx(total)
    assert found["loss"] == pytest.approx(0.6 * penalty(logits, label) + 0.4 * total)


@COUNTS
@LABELS
@pytest.mark.parametrize("variant", ["published", "linear query", "values"])
def test_dsmil(count: int, classes: int, label: int | list[int], variant: str) -> None:
    hidden = None if variant == "linear query" else 4
    network, p = ready(DualStreamBags(F, classes, query=3, query_hidden=hidden, values=variant == "values"))
    bag = draw(count)
    instances = list(bag[0].numpy())
    scores = np.array([linear(p, "instance_head", one) for one in instances])  # (N, classes)

    def query(one: Array) -> Array:
        if hidden is None:
            return linear(p, "query", one)
        return np.tanh(linear(p, "query.2", np.maximum(linear(p, "query.0", one), 0)))

    values = [np.maximum(linear(p, "value.1", one), 0) if variant == "values" else one for one in instances]
    rows, means = [], []
    for number in range(classes):
        critical = query(instances[int(scores[:, number].argmax())])
        rows.append(softmax([float(query(one) @ critical) / np.sqrt(3) for one in instances]))
        means.append(mean_under(rows[-1], values))
    mixed = [
        sum(p["mix.weight"][out, number] @ means[number] for number in range(classes)) + p["mix.bias"][out]
        for out in range(classes)
    ]
    output = network(bag)
    agree(output, np.array(mixed), np.array(rows))
    expected = (penalty(np.array(mixed), label) + penalty(scores.max(0), label)) / 2
    assert learned(network, output, label)["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 3, 17])
@LABELS
@pytest.mark.parametrize("distilled", ["max_min", "max", "features"])
@pytest.mark.parametrize(("groups", "instances"), [(1, 2), (4, 4), (3, 7)])
def test_dtfd(count: int, classes: int, label: int | list[int], distilled: Any, groups: int, instances: int) -> None:
    arguments: dict[str, Any] = {"groups": groups, "instances": instances, "distilled": distilled, "shuffled": False}
    network, p = ready(DoubleTierBags(F, classes, hidden=5, attention_hidden=3, **arguments))
    bag = draw(count)
    tokens = embed(p, bag)
    each = instances // groups
    first, kept = [], []
    sizes = [count // groups + (number < count % groups) for number in range(groups)]
    for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
        if not size:
            continue
        inside = tokens[start : start + size]
        weights = softmax(gated(p, "pool", inside))
        pooled = mean_under(weights, inside)
        first.append(linear(p, "group_head", pooled))
        if distilled == "features":
            kept.append(pooled)
            continue
        likely = [softmax(list(p["group_head.weight"] @ (w * one)))[-1] for w, one in zip(weights, inside, strict=True)]
        order = sorted(range(size), key=lambda place, likely=likely: -likely[place])
        kept += [inside[place] for place in order[:each]]
        kept += [inside[place] for place in order[-each:]] if distilled == "max_min" else []
    logits = linear(p, "head", mean_under(softmax(gated(p, "second_pool", kept)), kept))
    output = network.eval()(bag)
    agree(output, logits, softmax(gated(p, "pool", tokens))[None])
    if len(first) == groups:
        expected = penalty(logits, label) + np.mean([penalty(one, label) for one in first])
        assert learned(network, output, label)["loss"] == pytest.approx(expected)


def nystrom(p: Weights, name: str, tokens: Array, heads: int, landmarks: int) -> Array:
    """`x + Nyström(norm(x))` of tokens `(N, D)`, head by head."""
    count, dim = tokens.shape
    size = dim // heads
    normal = (tokens - tokens.mean(1, keepdims=True)) / np.sqrt(tokens.var(1, keepdims=True) + 1e-5)
    normal = normal * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]
    lead = -count % landmarks
    qkv = np.concatenate([np.zeros((lead, 3 * dim)), normal @ p[f"{name}.qkv.weight"].T])
    kernel = p[f"{name}.conv.weight"]
    parts = []
    for head in range(heads):
        q, k, v = (qkv[:, part * dim + head * size : part * dim + (head + 1) * size] for part in range(3))
        segment = len(qkv) // landmarks
        mean_q, mean_k = (
            np.array([one[at * segment : (at + 1) * segment].mean(0) for at in range(landmarks)]) for one in (q, k)
        )
        kernels = [
            np.array([softmax(list(row)) for row in a @ b.T / np.sqrt(size)])
            for a, b in ((q, mean_k), (mean_q, mean_k), (mean_q, k))
        ]
        parts.append((kernels, v))
    top = max(k[1].sum(1).max() for k, _ in parts) * max(k[1].sum(0).max() for k, _ in parts)
    out = []
    for head, ((wide, square, tall), v) in enumerate(parts):
        inverse = square.T / top
        eye = np.eye(landmarks)
        for _ in range(6):
            product = square @ inverse
            inverse = 0.25 * inverse @ (13 * eye - product @ (15 * eye - product @ (7 * eye - product)))
        line = kernel[head, 0]
        half = len(line) // 2
        padded = np.concatenate([np.zeros((half, size)), v, np.zeros((half, size))])
        along = np.array([sum(w * padded[at + step] for step, w in enumerate(line)) for at in range(len(v))])
        out.append(wide @ inverse @ tall @ v + along)
    joined = np.concatenate(out, 1)[lead:]
    return tokens + joined @ p[f"{name}.proj.weight"].T + p[f"{name}.proj.bias"]


def pyramid(p: Weights, grid: Array) -> Array:
    """The convolutions of three sizes and the tokens themselves, place by place; grid `(side, side, D)`."""
    side = len(grid)
    out = grid.copy()
    for number in range(3):
        weight, bias = p[f"square.convs.{number}.weight"], p[f"square.convs.{number}.bias"]
        half = weight.shape[-1] // 2
        for y in range(side):
            for x in range(side):
                out[y, x] += bias
                for down in range(max(0, y - half), min(side, y + half + 1)):
                    for across in range(max(0, x - half), min(side, x + half + 1)):
                        out[y, x] += weight[:, 0, down - y + half, across - x + half] * grid[down, across]
    return out


@pytest.mark.parametrize("count", [1, 4, 11])
@pytest.mark.parametrize(("heads", "landmarks"), [(1, 3), (2, 4)])
def test_transmil(count: int, heads: int, landmarks: int) -> None:
    network, p = ready(TransformerBags(F, 3, hidden=8, heads=heads, landmarks=landmarks, kernel=5))
    bag = draw(count)
    tokens = np.array([np.maximum(linear(p, "embed.0", one), 0) for one in bag[0].numpy()])
    side = int(np.ceil(np.sqrt(count)))
    tokens = np.concatenate([tokens, tokens[: side**2 - count]])
    tokens = nystrom(p, "first", np.concatenate([p["token"][0], tokens]), heads, landmarks)
    grid = pyramid(p, tokens[1:].reshape(side, side, 8)).reshape(-1, 8)
    last = nystrom(p, "second", np.concatenate([tokens[:1], grid]), heads, landmarks)[0]
    normal = (last - last.mean()) / np.sqrt(last.var() + 1e-5) * p["norm.weight"] + p["norm.bias"]
    agree(network.eval()(bag), linear(p, "head", normal))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: AttentionBags(F, 3, hidden=(5,), attention_hidden=3), id="abmil"),
        pytest.param(lambda: ClusteredBags(F, 3, hidden=5, attention_hidden=3, instances=2, dropout=0), id="clam"),
        pytest.param(lambda: DualStreamBags(F, 3, query=3, query_hidden=4), id="dsmil"),
        pytest.param(lambda: DoubleTierBags(F, 3, hidden=5, attention_hidden=3, shuffled=False), id="dtfd"),
    ],
)
def test_a_batch_of_several_labels_costs_the_mean_of_its_bags(make: Callable[[], Aggregator]) -> None:
    network, _ = ready(make())
    network.eval()
    bags = [draw(count, seed=count) for count in (6, 9, 4)]
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    padded = torch.nn.utils.rnn.pad_sequence([bag[0] for bag in bags], batch_first=True)
    mask = torch.arange(9) < torch.tensor([6, 9, 4])[:, None]
    together = network.losses(network(padded, mask), target, binary_cross_entropy_with_logits)["loss"]
    alone = [
        network.losses(network(bag), target[row : row + 1], binary_cross_entropy_with_logits)["loss"]
        for row, bag in enumerate(bags)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())
