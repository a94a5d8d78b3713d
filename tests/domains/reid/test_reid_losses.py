"""Each loss against its definition, written out pair by pair."""

import math

import pytest
import torch
from torch.nn import functional

from domains.reid.losses import (
    CentreLoss,
    LearnedWeights,
    MarginClassifier,
    attribute_triplet_loss,
    batch_hard_triplet_loss,
    circle_loss,
    identity_loss,
)

LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3])


@pytest.fixture
def embeddings() -> torch.Tensor:
    return torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(3))


def slow_triplets(x: torch.Tensor, margin: float | None) -> float:
    found = []
    for a in range(len(x)):
        positive = [float((x[a] - x[p]).norm()) for p in range(len(x)) if p != a and LABELS[p] == LABELS[a]]
        negative = [float((x[a] - x[n]).norm()) for n in range(len(x)) if LABELS[n] != LABELS[a]]
        if positive:
            gap = max(positive) - min(negative)
            found.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(found) / len(found)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_batch_hard_triplets_take_the_farthest_and_the_nearest(embeddings, margin):
    ours = batch_hard_triplet_loss(embeddings, LABELS, margin=margin)
    assert float(ours) == pytest.approx(slow_triplets(embeddings, margin), rel=1e-5)


def test_circle_loss_is_the_sum_over_all_pairs_of_each_anchor(embeddings):
    unit = functional.normalize(embeddings)
    margin, scale, found = 0.25, 8.0, []
    for a in range(len(unit)):
        others = [i for i in range(len(unit)) if i != a]
        s = {i: float(unit[a] @ unit[i]) for i in others}
        positive = [i for i in others if LABELS[i] == LABELS[a]]
        negative = [i for i in others if LABELS[i] != LABELS[a]]
        if positive:
            of_negative = sum(math.exp(scale * max(0, s[n] + margin) * (s[n] - margin)) for n in negative)
            of_positive = sum(math.exp(-scale * max(0, 1 + margin - s[p]) * (s[p] - 1 + margin)) for p in positive)
            found.append(math.log(1 + of_negative * of_positive))
    ours = circle_loss(embeddings, LABELS, margin=margin, scale=scale)
    assert float(ours) == pytest.approx(sum(found) / len(found), rel=1e-5)


def test_attribute_triplets_pass_over_what_is_not_known(embeddings):
    labels = torch.tensor([0, 0, 1, 1, -1, 1, -1, 0])
    unit = functional.normalize(embeddings)
    found = [
        max(0.0, 0.2 + float(unit[a] @ unit[n]) - float(unit[a] @ unit[p]))
        for a in range(8)
        for p in range(8)
        for n in range(8)
        if a != p and labels[a] == labels[p] >= 0 and labels[n] >= 0 and labels[n] != labels[a]
    ]
    ours = attribute_triplet_loss(embeddings, labels)
    assert float(ours) == pytest.approx(sum(found) / len(found), rel=1e-5)
    assert float(attribute_triplet_loss(embeddings, torch.full((8,), -1))) == 0


def test_centre_loss_is_half_the_squared_distance(embeddings):
    loss = CentreLoss(5, 4)
    centres = loss.centres.detach()
    slow = [float(((x - centres[i]) ** 2).sum()) / 2 for x, i in zip(embeddings, LABELS, strict=True)]
    assert loss(embeddings, LABELS).item() == pytest.approx(sum(slow) / len(slow), rel=1e-5)


def test_label_smoothing_spreads_over_all_identities():
    logits = torch.tensor([[2.0, 0.5, -1.0]])
    p = torch.softmax(logits, 1)[0]
    target = [0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3]
    slow = -sum(share * math.log(float(value)) for share, value in zip(target, p, strict=True))
    assert float(identity_loss(logits, torch.tensor([1]), smoothing=0.1)) == pytest.approx(slow, rel=1e-5)


def test_the_angular_margin_turns_the_own_identity_away(embeddings):
    classifier = MarginClassifier(5, 4, margin=0.4, scale=10.0).requires_grad_(False)
    logits = classifier(embeddings, LABELS)
    for row, (x, own) in enumerate(zip(embeddings, LABELS, strict=True)):
        for identity, weight in enumerate(classifier.weight):
            cosine = float(functional.cosine_similarity(x, weight, dim=0))
            angle = math.acos(cosine) + (0.4 if identity == own else 0.0)
            wanted = math.cos(angle) if angle <= math.pi else cosine - 0.4 * math.sin(0.4)
            assert float(logits[row, identity]) == pytest.approx(10 * wanted, abs=1e-4)
    opposite = -classifier.weight[:1].detach()
    past = classifier(opposite, torch.tensor([0]))[0, 0]
    assert float(past) == pytest.approx(10 * (-1 - 0.4 * math.sin(0.4)), abs=1e-3)


def test_learned_weights_follow_their_formula():
    weights = LearnedWeights(3).requires_grad_(False)
    losses = torch.tensor([1.0, 2.0, 3.0])
    assert float(weights(losses)) == pytest.approx(3.0)
    weights.w.data = torch.tensor([0.5, -1.0, 0.0])
    wanted = 0.5 * (math.exp(-0.5) + 0.5 + 2 * math.exp(1.0) - 1.0 + 3.0)
    assert float(weights(losses)) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="2 losses"):
        weights(losses[:2])


@pytest.mark.parametrize("loss", [batch_hard_triplet_loss, circle_loss])
def test_a_batch_without_partners_gives_nothing_and_a_gradient(loss):
    x = torch.randn(3, 4, requires_grad=True)
    value = loss(x, torch.tensor([0, 1, 2]))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("loss", [batch_hard_triplet_loss, circle_loss, attribute_triplet_loss])
def test_equal_embeddings_have_a_finite_gradient(loss):
    x = torch.ones(8, 4, requires_grad=True)
    loss(x, LABELS).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("loss", [batch_hard_triplet_loss, circle_loss, attribute_triplet_loss])
def test_losses_keep_their_digits_under_autocast(embeddings, loss):
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(embeddings, LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(embeddings, LABELS), rtol=1e-6, atol=1e-6)


def test_the_angular_margin_keeps_its_digits_under_autocast(embeddings):
    classifier = MarginClassifier(5, 4, margin=0.4).requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        found = classifier(embeddings, LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, classifier(embeddings, LABELS), rtol=1e-6, atol=1e-6)


def test_distances_are_those_of_embeddings_far_from_zero():
    moved = torch.randn(len(LABELS), 64, generator=torch.Generator().manual_seed(0)) + 100
    exact = batch_hard_triplet_loss(moved - 100, LABELS, margin=0.3)
    torch.testing.assert_close(batch_hard_triplet_loss(moved, LABELS, margin=0.3), exact, rtol=1e-4, atol=1e-4)


def test_gradients_of_triplets_are_those_of_plain_distances(embeddings):
    def slow(x):
        distance = torch.stack([torch.stack([(a - b).square().sum().clamp_min(1e-12).sqrt() for b in x]) for a in x])
        parts = []
        for a in range(len(x)):
            own = [p for p in range(len(x)) if p != a and LABELS[p] == LABELS[a]]
            if own:
                other = [n for n in range(len(x)) if LABELS[n] != LABELS[a]]
                parts.append(functional.softplus(distance[a, own].max() - distance[a, other].min()))
        return torch.stack(parts).mean()

    first, second = (embeddings.clone().requires_grad_() for _ in range(2))
    batch_hard_triplet_loss(first, LABELS).backward()
    slow(second).backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [batch_hard_triplet_loss, circle_loss, attribute_triplet_loss])
def test_a_batch_of_one_identity_gives_nothing(embeddings, loss):
    x = embeddings.clone().requires_grad_()
    value = loss(x, torch.zeros(len(x), dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()
