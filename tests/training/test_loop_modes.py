"""Random numbers of a step, and the modes that parts of a network are in."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from p2ch_luna.training.loop import observe_all, seed_step, set_training

CPU = torch.device("cpu")


class Single(NamedTuple):
    hu: Tensor  # (B, 1)


def double() -> nn.Linear:
    """y = 2 x."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 2.0)
    nn.init.zeros_(model.bias)
    return model


# random numbers


def test_a_step_has_the_same_numbers_each_time() -> None:
    drawn = []
    for _ in range(2):
        generator = seed_step(3, 5, 0)
        drawn.append((torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("other", [(4, 5, 0), (3, 6, 0), (3, 5, 1)], ids=["seed", "step", "rank"])
def test_another_step_has_others(other: tuple[int, int, int]) -> None:
    first, second = ((seed_step(*key), torch.rand(3))[1] for key in ((3, 5, 0), other))
    assert not torch.equal(first, second)


def test_what_all_processes_draw_is_the_same() -> None:
    first, second = (torch.rand(3, generator=seed_step(3, 5, rank)) for rank in (0, 1))
    assert torch.equal(first, second)


def test_what_all_processes_draw_is_no_processs_own() -> None:
    generator = seed_step(3, 5, 0)
    assert not torch.equal(torch.rand(3), torch.rand(3, generator=generator))


# modes


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1), nn.Sequential(nn.Dropout(), nn.Dropout()))
    set_training(model, ["0", "1.0"])
    assert [part.training for part in (model, model[0], model[1], model[1][0], model[1][1])] == [
        True, False, True, False, True,
    ]  # fmt: skip


def test_training_mode_comes_back_after_a_validation() -> None:
    model = nn.Sequential(nn.Dropout())
    observe_all(model, [], lambda *_: None, plain=lambda batch: batch, device=CPU)
    assert not model[0].training
    set_training(model)
    assert model[0].training


def test_observations_come_in_the_order_of_the_batches() -> None:
    batches = [Single(torch.tensor([[float(k)]])) for k in range(5)]
    seen: list[Any] = observe_all(
        double(),
        batches,
        lambda output, batch: (output.item(), batch.hu.item()),
        plain=lambda batch: batch._replace(hu=batch.hu + 1),
        device=CPU,
        precision="fp32",
    )
    assert seen == [(2.0 * (k + 1), k + 1.0) for k in range(5)]


def test_nothing_is_learnt_in_a_validation() -> None:
    model = double()
    observe_all(
        model,
        [Single(torch.ones(1, 1))],
        lambda output, _: output.requires_grad,
        plain=lambda b: b,
        device=CPU,
    )
    assert model.weight.grad is None
