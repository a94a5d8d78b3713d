"""The loss is what its formula says, whatever is absent and in whatever precision logits come."""

import pytest
import torch

from domains.medical.segmentation.loss import dice_loss, supervised_loss


def logits_of(labels: torch.Tensor, classes: int, certainty: float = 40.0) -> torch.Tensor:
    return certainty * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_a_perfect_answer_costs_nothing_and_the_opposite_almost_everything():
    labels = torch.randint(0, 3, (2, 6, 5, 4), generator=torch.Generator().manual_seed(0))
    right = supervised_loss(logits_of(labels, 3), labels)
    wrong = supervised_loss(logits_of((labels + 1) % 3, 3), labels)
    assert right["loss"] < 1e-4
    assert wrong["dice_loss"] > 0.999


@pytest.mark.parametrize("batch", [True, False])
def test_dice_is_the_formula(batch):
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(3, 4, 5, 6, generator=generator), torch.randint(0, 4, (3, 5, 6), generator=generator)
    probabilities = logits.softmax(1)
    dices = []
    for group in [slice(None)] if batch else [slice(index, index + 1) for index in range(3)]:
        for k in (1, 2, 3):
            truth = (labels[group] == k).float()
            guess = probabilities[group, k]
            dices.append((2 * (truth * guess).sum() + 0.1) / (truth.sum() + guess.sum() + 0.1))
    expected = 1 - torch.stack(dices).mean()
    torch.testing.assert_close(dice_loss(logits, labels, batch=batch, smooth=0.1), expected)


@pytest.mark.parametrize("smooth", [0.0, 1e-5])
def test_absent_classes_give_a_finite_loss_and_gradient(smooth):
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    loss = supervised_loss(logits, torch.zeros(2, 4, 4, dtype=torch.long), smooth=smooth)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_judged_in_full_precision():
    labels = torch.zeros(1, 64, 64, 64, dtype=torch.long)
    labels[:, 0, 0, 0] = 1
    logits = logits_of(labels, 2, certainty=8.0)
    torch.testing.assert_close(
        supervised_loss(logits.bfloat16(), labels)["loss"], supervised_loss(logits, labels)["loss"]
    )


def test_coarser_outputs_weigh_half_as_much_each():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :4] = 1
    good, bad = logits_of(labels, 2), logits_of(1 - labels, 2)
    coarse = bad[..., ::2, ::2]
    only = supervised_loss(coarse, labels[:, ::2, ::2])["loss"]
    torch.testing.assert_close(supervised_loss([good, coarse], labels)["loss"], only / 3, rtol=1e-4, atol=1e-4)


def test_class_weights_move_the_cross_entropy():
    labels = torch.tensor([[[0, 1]]])
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1] = 3.0
    even = supervised_loss(logits, labels, dice=0)["loss"]
    heavy = supervised_loss(logits, labels, dice=0, weight=torch.tensor([10.0, 1.0]))["loss"]
    assert heavy > even
