"""What the comparisons of bag networks share: bags in memory, one recipe of training, probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from domains.medical.bags.building import build_network
from domains.medical.bags.model_settings import ModelSettings

__all__ = ["BATCH", "Bags", "positive", "train"]

BATCH = 8


class Bags:
    """Bags of two classes, and batches of them.

    Args:
        bags: Each `(N, F)` float32.
        labels: 0 or 1 of each.
    """

    def __init__(self, bags: Sequence[NDArray[np.float32]], labels: Sequence[int]) -> None:
        self.bags = [torch.from_numpy(bag) for bag in bags]
        self.labels = torch.tensor(list(labels))

    def scale(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the features of some bags."""
        every = torch.cat([self.bags[row] for row in rows])
        return every.mean(0), every.std(0).clamp(min=1e-6)

    def batch(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Padded bags, mask and labels."""
        bags = [self.bags[row] for row in rows]
        counts = torch.tensor([len(bag) for bag in bags])
        padded = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True)
        return padded, torch.arange(int(counts.max())) < counts[:, None], self.labels[list(rows)]


def train(
    bags: Bags,
    rows: Sequence[int],
    model: ModelSettings,
    *,
    rate: float,
    weight_decay: float,
    epochs: int,
    seed: int,
) -> torch.nn.Module:
    """A network of some bags after a fixed number of epochs: AdamW, cosine to zero, eight bags a step."""
    torch.manual_seed(seed)
    network = build_network(model, features=bags.bags[0].shape[1], classes=2)
    mean, deviation = bags.scale(rows)
    network.mean.copy_(mean)
    network.deviation.copy_(deviation)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=weight_decay, fused=True)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(rows)).split(BATCH):
            values, mask, labels = bags.batch([rows[index] for index in chosen])
            loss = network.network.losses(network(values, mask), labels, cross_entropy)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def positive(network: torch.nn.Module, bags: Bags, rows: Sequence[int]) -> NDArray[np.float64]:
    """Probability of the positive class, `(len(rows),)`."""
    values, mask, _ = bags.batch(rows)
    found: NDArray[np.float64] = network(values, mask).logits.softmax(-1)[:, 1].double().numpy()
    return found
