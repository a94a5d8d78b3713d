"""One battery over every bag network, and what is peculiar to each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from domains.medical.bags.networks.abmil import AttentionBags
from domains.medical.bags.networks.acmil import ChallengingBags, similarity
from domains.medical.bags.networks.acmil_heads import ChallengingHeads, QueryBags
from domains.medical.bags.networks.clam import ClusteredBags
from domains.medical.bags.networks.contract import Aggregator
from domains.medical.bags.networks.dsmil import DualStreamBags
from domains.medical.bags.networks.dtfd import DoubleTierBags
from domains.medical.bags.networks.masking import hide_highest
from domains.medical.bags.networks.mixer import MixedBags
from domains.medical.bags.networks.pooled import PooledBags
from domains.medical.bags.networks.transmil import TransformerBags
from shared_attention import build
from shared_attention.testing import random_weights

F = 10
NETWORKS = {
    "mean": lambda c: PooledBags(F, c, hidden=(8,)),
    "max": lambda c: PooledBags(F, c, hidden=(8,), pooling="max"),
    "raw mean": lambda c: PooledBags(F, c, hidden=()),
    "abmil": lambda c: AttentionBags(F, c, hidden=(8,), attention_hidden=6, dropout=0.1),
    "plain abmil": lambda c: AttentionBags(F, c, hidden=(8, 8), attention_hidden=6, gated=False),
    "acmil": lambda c: ChallengingBags(F, c, hidden=(8,), attention_hidden=6, branches=3, masked=4),
    "acmil heads": lambda c: ChallengingHeads(F, c, hidden=(8,), heads=2, branches=3, masked=4),
    "query": lambda c: QueryBags(F, c, hidden=(8,), heads=4),
    "clam": lambda c: ClusteredBags(F, c, hidden=8, attention_hidden=6, instances=3),
    "clam by class": lambda c: ClusteredBags(F, c, hidden=8, attention_hidden=6, instances=3, by_class=True, sink=True),
    "dsmil": lambda c: DualStreamBags(F, c, query=6, query_hidden=5),
    "dsmil values": lambda c: DualStreamBags(F, c, hidden=(8,), query=6, query_hidden=None, values=True),
    "transmil": lambda c: TransformerBags(F, c, hidden=16, heads=2, landmarks=4, kernel=5),
    "dtfd": lambda c: DoubleTierBags(F, c, hidden=8, attention_hidden=6),
    "dtfd features": lambda c: DoubleTierBags(F, c, hidden=8, attention_hidden=6, distilled="features"),
    "mixer": lambda c: MixedBags(F, c, hidden=8, mixer=lambda d: build("full", d, rank=1, heads=2), layers=2),
}
ORDERED = {"transmil", "dtfd", "dtfd features"}
every = pytest.mark.parametrize("name", list(NETWORKS))


def made(name: str, classes: int = 3, *, training: bool = False) -> Aggregator:
    torch.manual_seed(0)
    network = NETWORKS[name](classes)
    random_weights(network)
    return network.double().train(training)


def some_bags(*counts: int) -> tuple[Tensor, Tensor]:
    """Bags `(B, N, F)` whose padding is NaN, and their mask."""
    generator = torch.Generator().manual_seed(1)
    bags = torch.randn(len(counts), max(counts), F, generator=generator, dtype=torch.float64)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return bags.masked_fill(~mask.unsqueeze(-1), float("nan")), mask


@every
@pytest.mark.parametrize("counts", [(7, 1, 12), (3, 30, 2)])
def test_a_padded_bag_gives_what_it_gives_alone(name: str, counts: tuple[int, ...]) -> None:
    network = made(name)
    bags, mask = some_bags(*counts)
    together = network(bags, mask)
    assert together.logits.shape == (len(counts), 3)
    for row, count in enumerate(counts):
        alone = network(bags[row : row + 1, :count])
        torch.testing.assert_close(together.logits[row], alone.logits[0])
        torch.testing.assert_close(together.attention[row, :, :count], alone.attention[0])
    assert (together.attention.masked_select(~mask.unsqueeze(1)) == 0).all()


@every
def test_attention_is_a_share_of_each_instance(name: str) -> None:
    network = made(name)
    attention = network(*some_bags(7, 1, 12)).attention
    assert (attention >= 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))


@every
def test_order_matters_only_where_it_is_said(name: str) -> None:
    network = made(name)
    bags, _ = some_bags(13)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(2))
    one, other = network(bags), network(bags[:, order])
    same = torch.allclose(one.logits, other.logits, atol=1e-9)
    assert same == (name not in ORDERED)
    if same:
        torch.testing.assert_close(one.attention[..., order], other.attention)


@every
@pytest.mark.parametrize("several", [False, True])
def test_losses_reach_every_parameter(name: str, several: bool) -> None:
    network = made(name, training=True)
    bags, mask = some_bags(9, 14, 5, 30)
    target = (
        torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0]]).double() if several else torch.tensor([0, 1, 2, 0])
    )
    losses = network.losses(network(bags, mask), target, binary_cross_entropy_with_logits if several else cross_entropy)
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    losses["loss"].backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@every
def test_wrong_bags_are_refused_with_what_is_allowed(name: str) -> None:
    network = made(name)
    bags, mask = some_bags(4, 2)
    wrong = {
        "3 features; the network was built for 10": (bags[..., :3], mask),
        "allowed is floating point": (bags[0], None),
        "allowed is torch.bool": (bags, mask.long()),
        "a bag has no real instance": (bags, mask & torch.tensor([[True], [False]])),
    }
    for message, given in wrong.items():
        with pytest.raises(ValueError, match=message):
            network(*given)


@every
def test_every_class_count_is_served(name: str) -> None:
    bags, mask = some_bags(6, 3)
    for classes in (1, 2, 5):
        assert made(name, classes)(bags, mask).logits.shape == (2, classes)


def test_the_highest_logits_are_hidden_and_no_others() -> None:
    logits = torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    hidden = hide_highest(logits, count=10, share=0.6)
    gone = hidden == -1e9
    assert (gone.sum(-1) == 6).all()
    tenth = logits.topk(10).values[..., -1:]
    assert (logits[gone] >= tenth.expand_as(logits)[gone]).all()
    assert torch.equal(hidden[~gone], logits[~gone])
    assert not torch.equal(gone, hide_highest(logits, count=10, share=0.6) == -1e9), "each time others"


def test_no_more_is_hidden_of_a_short_bag_than_of_it_alone() -> None:
    logits = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(12) < torch.tensor([12, 5])[:, None, None]
    gone = hide_highest(logits, count=10, share=0.6, mask=mask) == -1e9
    assert gone.sum(-1).flatten().tolist() == [6, 3]  # 0.6 of ten, 0.6 of five
    assert not (gone & ~mask).any()


def test_similarity_is_the_mean_cosine_of_pairs() -> None:
    weights = torch.rand(2, 4, 9, generator=torch.Generator().manual_seed(4)).double()
    pairs = [
        torch.cosine_similarity(weights[bag, one], weights[bag, other], dim=-1)
        for bag in range(2)
        for one in range(4)
        for other in range(one + 1, 4)
    ]
    torch.testing.assert_close(similarity(weights), torch.stack(pairs).mean())
    assert similarity(weights[:, :1]) == 0


def test_acmil_of_one_branch_is_gated_attention() -> None:
    torch.manual_seed(0)
    plain = AttentionBags(F, 2, hidden=(8,), attention_hidden=6, bias=False)
    branched = ChallengingBags(F, 2, hidden=(8,), attention_hidden=6, branches=1, masked=0)
    branched.load_state_dict(
        plain.state_dict()
        | {key: value for key, value in branched.state_dict().items() if key.startswith("branch_heads")}
    )
    bags, target = torch.randn(3, 9, F), torch.tensor([0, 1, 1])
    first, second = plain(bags), branched(bags)
    torch.testing.assert_close(first.logits, second.logits)
    losses = branched.losses(second, target, cross_entropy)
    torch.testing.assert_close(losses["loss"], plain.losses(first, target, cross_entropy)["loss"])


def test_clam_teaches_the_highest_and_lowest_instances() -> None:
    network = made("clam by class")
    bags, mask = some_bags(9, 4)
    output = network(bags, mask)
    expected = []
    for row, (count, label) in enumerate(((9, 1), (4, 0))):
        parts = []
        for number, head in enumerate(network.instance_heads):
            weights = output.attention[row, number, :count]
            tokens = output.parts["tokens"][row, :count]
            order = weights.argsort(descending=True)
            k = min(3, count)
            if number == label:
                chosen = torch.cat([order[:k], order.flip(0)[:k]])
                parts.append(cross_entropy(head(tokens[chosen]), torch.tensor([1] * k + [0] * k)))
            else:
                parts.append(cross_entropy(head(tokens[order[:k]]), torch.zeros(k, dtype=torch.long)))
        expected.append(sum(parts) / 3)
    torch.testing.assert_close(network.instance_loss(output, torch.tensor([1, 0])), sum(expected) / 2)


def test_the_second_tier_moves_nothing_of_the_first() -> None:
    network = made("dtfd", training=True)
    output = network(some_bags(12)[0])
    network.losses(output, torch.tensor([1]), cross_entropy)["bag_loss"].backward()
    moved = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert moved == {"second_pool", "head"}


def test_transmil_attention_counts_repeated_instances_once() -> None:
    network = made("transmil")
    attention = network(some_bags(10)[0]).attention  # 16 places: the first six stand twice
    assert attention.shape == (1, 1, 10)
    torch.testing.assert_close(attention.sum(), torch.ones((), dtype=torch.float64))


def test_published_networks_are_met(golden_root: Path) -> None:
    from shared_attention.parity import verify
    from shared_attention.published import register_adapters

    register_adapters("domains.medical.bags.adapters")
    names = ["abmil_amlab", "abmil_amlab_gated", "abmil_gated", "acmil_ga", "acmil_mha", "clam_mb", "clam_mb_acmil"]
    names += ["clam_sb", "clam_sb_acmil", "dsmil", "dsmil_acmil", "dsmil_acmil_linear_q", "dsmil_passing_v"]
    verdicts = verify(golden_root, [*names, "transmil", "dtfd", "mil_mha"])
    assert len(verdicts) >= 16
    assert [one for one in verdicts if one.status != "equal"] == []
