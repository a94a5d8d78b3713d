"""One optimizer step."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.errors import ConfigurationError, TrainingError
from pipelines.training.engine import Engine, average_weights, make_optimizer
from pipelines.training.machine import choose_precision, choose_workers
from pipelines.training.settings import TrainingSettings


def make_engine(toy: ModuleType, *, task: Any = None, **values: Any) -> Engine:
    settings = TrainingSettings.model_validate({"lr": 0.1, **values})
    return Engine(task or toy.ToyTask(dropout=0.0), settings, seed=3, device="cpu", precision="fp32")


def make_batch(toy: ModuleType, first: int, count: int) -> dict[str, Any]:
    data = toy.ToyData(toy.make_cases(first + count), 3, frozenset())
    torch.manual_seed(0)
    samples = [data[toy.SampleKey(0, number)] for number in range(first + count)]
    return dict(data.collate(samples[first:]))


def weights_of(engine: Engine) -> Tensor:
    return nn.utils.parameters_to_vector(engine.network.parameters()).detach()


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulated_batches_equal_one_large_batch(toy: ModuleType, parts: int) -> None:
    large, small = make_engine(toy), make_engine(toy)
    size = 6 // parts
    for number in range(3):
        large.step([make_batch(toy, 0, 6)], number=number, lr=0.1)
        small.step([make_batch(toy, first, size) for first in range(0, 6, size)], number=number, lr=0.1)
    torch.testing.assert_close(weights_of(small), weights_of(large), rtol=1e-4, atol=1e-5)


def test_step_is_that_of_plain_pytorch(toy: ModuleType) -> None:
    engine = make_engine(toy, optimizer={"name": "sgd", "momentum": 0.9, "weight_decay": 0.0}, clip_norm=0.5)
    torch.manual_seed(3)
    network = toy.ToyTask(dropout=0.0).build_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for number in range(3):
        batch = make_batch(toy, 2 * number, 2)
        outcome = engine.step([batch], number=number, lr=0.1)
        loss = nn.functional.cross_entropy(network(batch["image"]), batch["label"])
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(outcome.losses, torch.stack([loss, loss * 2])[None].detach())
        assert outcome.norm is not None
        torch.testing.assert_close(outcome.norm, norm)
    torch.testing.assert_close(weights_of(engine), nn.utils.parameters_to_vector(network.parameters()).detach())


def test_moving_average_follows_its_formula() -> None:
    network, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    average.requires_grad_(False)
    expected = torch.ones(2)
    for updates in range(30):
        with torch.no_grad():
            network.weight.fill_(updates)
        network.running_mean = torch.full((2,), float(updates))
        average_weights(average, network, decay=0.7, updates=updates)
        decay = min(0.7, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * updates
    torch.testing.assert_close(average.weight, expected)
    assert average.running_mean is not None
    assert average.running_mean.tolist() == [29.0, 29.0]


def test_the_average_is_what_is_served(toy: ModuleType) -> None:
    engine = make_engine(toy, ema=0.9)
    before = {name: value.clone() for name, value in engine.weights().items()}
    engine.step([make_batch(toy, 0, 4)], number=0, lr=0.1)
    network = engine.network.state_dict()
    for name, value in engine.weights().items():
        torch.testing.assert_close(value, 0.1 * before[name] + 0.9 * network[name])
    assert not engine.served.training


def test_one_axis_parameters_are_not_decayed(toy: ModuleType) -> None:
    network = toy.ToyTask().build_network()
    groups = make_optimizer(network, TrainingSettings()).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert all(decay[id(parameter)] == (0.01 if parameter.ndim > 1 else 0.0) for parameter in network.parameters())


def test_a_network_of_one_axis_parameters_alone_can_be_optimised() -> None:
    assert make_optimizer(nn.LayerNorm(3), TrainingSettings()).param_groups


def test_bf16_keeps_the_loss_in_float32_and_channels_last_the_values(toy: ModuleType) -> None:
    settings = TrainingSettings(channels_last=True)
    half = Engine(toy.ToyTask(dropout=0.0), settings, seed=3, device="cpu", precision="bf16")
    whole = make_engine(toy)
    assert half.network[4].weight.is_contiguous(memory_format=torch.channels_last)
    outcomes = [engine.step([make_batch(toy, 0, 4)], number=0, lr=0.1) for engine in (half, whole)]
    assert outcomes[0].losses.dtype == torch.float32
    torch.testing.assert_close(outcomes[0].losses, outcomes[1].losses, rtol=0.02, atol=0.02)
    assert not torch.equal(outcomes[0].losses, outcomes[1].losses)


def test_a_step_depends_on_its_number_alone(toy: ModuleType) -> None:
    """Dropout draws the same masks whatever was drawn before."""
    losses = []
    for drawn in (0, 5):
        engine = make_engine(toy, task=toy.ToyTask(dropout=0.5))
        torch.manual_seed(99)
        torch.rand(drawn)
        losses.append(engine.step([make_batch(toy, 0, 4)], number=17, lr=0.1).losses)
    assert torch.equal(losses[0], losses[1])


def test_a_task_without_a_loss_is_told_so(toy: ModuleType) -> None:
    task = toy.ToyTask()
    task.loss_step = lambda network, batch: {"dice": network(batch["image"]).mean()}
    with pytest.raises(TrainingError, match="dice, without `loss`"):
        make_engine(toy, task=task).step([make_batch(toy, 0, 2)], number=0, lr=0.1)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"train\.precision: fp16 needs a GPU"):
        choose_precision("fp16", "cpu")


def test_no_loader_process_takes_a_core_from_training_on_a_cpu() -> None:
    assert choose_workers("auto", "cpu") == 0
    assert choose_workers(3, "cpu") == 3
