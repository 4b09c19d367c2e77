"""The rate of each step, what decays, and averages of weights worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from p2ch_luna.training.optim import make_optimizer, update_average, warmup_cosine


def rates(warmup_steps: int, total_steps: int) -> list[float]:
    """Of each step, and what would be the next one's."""
    optimizer = make_optimizer(nn.Linear(1, 1), 1.0, 0.0)
    scheduler = warmup_cosine(optimizer, warmup_steps, total_steps)
    found = []
    for _ in range(total_steps + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def single(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_the_rate_rises_falls_and_ends_at_zero() -> None:
    found = rates(4, 24)
    assert found[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert found[14] == pytest.approx(0.5)  # half of the 20 steps of the cosine
    assert found[24] == pytest.approx(0.0)


def test_without_a_warm_up_the_first_rate_is_the_highest() -> None:
    assert rates(0, 4) == pytest.approx([1.0, 0.8536, 0.5, 0.1464, 0.0], abs=1e-4)  # (1 + cos(k pi / 4)) / 2


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    decayed, plain = make_optimizer(model, 1e-3, 0.1).param_groups
    assert [p.ndim for p in decayed["params"]] == [5]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_what_is_frozen_is_not_optimised() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    model[0].requires_grad_(False)
    groups = make_optimizer(model, 1e-3, 0.1).param_groups
    assert [p for group in groups for p in group["params"]] == list(model[1].parameters())


@pytest.mark.parametrize(
    ("step", "weight"),
    [(0, 0.9), (8, 0.5), (90, 0.1), (10_000, 0.1)],  # 1 - (1 + step) / (10 + step), at least 1 - 0.9
)
def test_the_average_forgets_faster_at_the_start(step: int, weight: float) -> None:
    average = single(0.0)
    update_average(average, single(1.0), 0.9, step)
    assert average.weight.item() == pytest.approx(weight, rel=1e-5)


def test_the_average_of_many_steps_is_exponential() -> None:
    average = single(0.0)
    for value in (1.0, 2.0, 4.0):
        update_average(average, single(value), 0.5, 1000)
    assert average.weight.item() == pytest.approx(4 / 2 + 2 / 4 + 1 / 8)


def test_statistics_of_batch_norm_are_averaged_too() -> None:
    average, model = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    model.running_mean.fill_(10.0)  # type: ignore[union-attr]
    update_average(average, model, 0.9, 10_000)
    assert average.running_mean is not None
    assert average.running_mean.item() == pytest.approx(1.0)


def test_the_count_of_batches_is_taken_over() -> None:
    average, model = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    model.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    update_average(average, model, 0.9, 10_000)
    assert average.num_batches_tracked == 7


def test_the_model_itself_is_left_alone() -> None:
    model = single(1.0)
    update_average(single(0.0), model, 0.9, 0)
    assert model.weight.item() == 1.0


def test_a_weight_that_stays_has_itself_as_its_average() -> None:
    value = torch.rand(1000)
    model, average = nn.Linear(1000, 1, bias=False), nn.Linear(1000, 1, bias=False)
    for one in (model, average):
        one.weight.data[0] = value
    for step in range(20):
        update_average(average, model, 0.999, step)
    assert torch.equal(average.weight[0], value)  # to the last bit: a frozen part is as it was
