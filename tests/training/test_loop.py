"""Steps and epochs of a network of one line, y = w x + b, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.errors import LunaError
from p2ch_luna.training.loop import (
    EpochResult,
    Objective,
    Rules,
    parts_of,
    split,
    train_epoch,
    train_step,
)
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Stop
from p2ch_luna.training.world import World

CPU = torch.device("cpu")
ALONE = World(CPU)
FP32 = Rules(clip_norm=1e9, precision="fp32")  # what is worked out by hand is not in bfloat16


class Pair(NamedTuple):
    hu: Tensor  # (B, 1)
    y: Tensor  # (B, 1) NaN: not known


def pair(*values: tuple[float, float]) -> Pair:
    hu, y = torch.tensor(values).split(1, dim=1)
    return Pair(hu, y)


def known_counts(batch: Pair) -> dict[str, Tensor]:
    return {"squared": (~batch.y.isnan()).float().sum()}


def known_totals(output: Tensor, batch: Pair) -> dict[str, Tensor]:
    error = torch.where(batch.y.isnan(), 0.0, output - batch.y.nan_to_num())
    return {"squared": (error**2).sum()}


SQUARED = Objective(known_counts, known_totals)


def line(w: float = 0.0, b: float = 0.0) -> nn.Linear:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, w)
    nn.init.constant_(model.bias, b)
    return model


def state_of(model: nn.Module, lr: float = 1.0, average: nn.Module | None = None) -> State:
    """Plain gradient descent: a step of 1 moves a parameter by its gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    return State(model, average, optimizer, schedule, GradScaler("cpu", enabled=False))


def gradient(model: nn.Module, batch: Pair, pieces: int, objective: Objective = SQUARED) -> Tensor:
    """By how much one step moves all parameters."""
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    train_step(model, batch, objective, state_of(model), Rules(1e9, pieces, precision="fp32"), ALONE)
    return before - torch.cat([p.detach().flatten() for p in model.parameters()])


def epoch(
    model: nn.Module, batches: list[Pair], stop: Stop | None = None, state: State | None = None
) -> tuple[EpochResult | None, list[Mapping[str, float]]]:
    heard: list[Mapping[str, float]] = []
    result = train_epoch(
        model, batches, SQUARED, state or state_of(model, lr=0.1), FP32, ALONE,
        prepare=lambda batch, _: batch, on_step=lambda figures: heard.append(dict(figures)),
        stop=stop or Stop(),
    )  # fmt: skip
    return result, heard


# a step


def test_the_gradient_is_that_of_the_mean() -> None:
    # w = b = 0: errors -2 and -4; d/dw = 2 (-2 * 1 + -4 * 3) / 2, d/db = 2 (-2 - 4) / 2
    found = gradient(line(), pair((1.0, 2.0), (3.0, 4.0)), pieces=1)
    assert found.tolist() == pytest.approx([-14.0, -6.0])


@pytest.mark.parametrize("pieces", [2, 4])
def test_the_gradient_of_pieces_is_that_of_the_batch(pieces: int) -> None:
    nan = float("nan")  # of the first half one is known, of the second all: a mean of means is another
    batch = pair((1, 2), (2, nan), (3, nan), (4, nan), (1, 1), (2, 5), (3, 2), (-1, 2))
    network = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
    start = {name: value.clone() for name, value in network.state_dict().items()}
    whole = gradient(network, batch, 1)
    network.load_state_dict(start)
    torch.testing.assert_close(gradient(network, batch, pieces), whole)


@pytest.mark.parametrize("pieces", [1, 2])
def test_each_class_is_a_mean_of_its_own(pieces: int) -> None:
    def of_class(batch: Pair) -> Tensor:
        return torch.cat([batch.y == 0, batch.y == 1], dim=1).float()  # (B, 2)

    balanced = Objective(
        lambda batch: {"both": of_class(batch).sum(0)},
        lambda output, batch: {"both": (0.5 * of_class(batch) * output).sum(0)},
    )
    # classes of 3 and 1: d/dw = 0.5 (1 + 2 + 3) / 3 + 0.5 * 10 / 1
    batch = pair((1.0, 0), (2.0, 0), (3.0, 0), (10.0, 1))
    assert gradient(line(), batch, pieces, balanced)[0] == pytest.approx(6.0)


def test_an_absent_class_counts_as_zero() -> None:
    parts = parts_of({"both": torch.tensor([6.0, 0.0])}, {"both": torch.tensor([3.0, 0.0])})
    assert parts["both"] == 2.0


def test_the_figures_are_those_of_the_whole_batch() -> None:
    batch = pair((1.0, 2.0), (3.0, 4.0))
    for pieces in (1, 2):
        figures = train_step(
            line(), batch, SQUARED, state_of(line()), Rules(1e9, pieces, precision="fp32"), ALONE
        )
        assert figures["squared"] == pytest.approx(10.0)  # (4 + 16) / 2


def test_the_gradient_is_clipped() -> None:
    model = line()
    figures = train_step(
        model, pair((1.0, 2.0), (3.0, 4.0)), SQUARED, state_of(model), Rules(0.5, precision="fp32"), ALONE
    )
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]).norm()
    assert moved == pytest.approx(0.5, rel=1e-4)
    assert figures["gradient_norm"] == pytest.approx((14**2 + 6**2) ** 0.5)  # before it is


def test_a_small_gradient_is_not_clipped() -> None:
    model = line()
    train_step(
        model, pair((1.0, 2.0), (3.0, 4.0)), SQUARED, state_of(model), Rules(100.0, precision="fp32"), ALONE
    )
    assert [model.weight.item(), model.bias.item()] == pytest.approx([14.0, 6.0])


def test_a_step_is_counted_and_leaves_no_gradient() -> None:
    model = line()
    state = state_of(model)
    train_step(model, pair((1.0, 2.0)), SQUARED, state, FP32, ALONE)
    assert (state.step, state.step_in_epoch, model.weight.grad) == (1, 1, None)


def test_the_average_follows() -> None:
    model, average = line(), line().requires_grad_(False)
    train_step(
        model,
        pair((1.0, 2.0)),
        SQUARED,
        state_of(model, average=average),
        Rules(1e9, ema=0.9, precision="fp32"),
        ALONE,
    )
    # the first step: the model has moved to w = 4; a weight of 1 - 1/10
    assert (model.weight.item(), average.weight.item()) == pytest.approx((4.0, 3.6))


def test_pieces_are_of_the_batchs_kind_and_in_order() -> None:
    pieces = list(split(pair((0, 1), (2, 3), (4, 5), (6, 7)), 2))
    assert [type(piece) for piece in pieces] == [Pair, Pair]
    assert [piece.hu.flatten().tolist() for piece in pieces] == [[0, 2], [4, 6]]


# an epoch


def test_an_epoch_learns_a_line() -> None:
    model = line()
    x = torch.linspace(-1, 1, 16).reshape(-1, 1)
    epoch(model, [Pair(x, 3 * x + 1)] * 200)
    assert [model.weight.item(), model.bias.item()] == pytest.approx([3.0, 1.0], abs=1e-3)


def test_the_figures_of_an_epoch_are_the_means_of_its_steps() -> None:
    result, heard = epoch(line(), [pair((1.0, 2.0)), pair((2.0, 3.0)), pair((0.0, 1.0))])
    assert result is not None
    assert result.losses["squared"] == pytest.approx(sum(h["squared"] for h in heard) / 3)
    assert result.gradient_norm == pytest.approx(sum(h["gradient_norm"] for h in heard) / 3)


def test_the_time_for_data_is_told_apart() -> None:
    def slow() -> Iterator[Pair]:
        for _ in range(2):
            torch.randn(400, 400) @ torch.randn(400, 400)  # some milliseconds
            yield pair((1.0, 2.0))

    result, _ = epoch(line(), slow())  # type: ignore[arg-type]
    assert result is not None
    assert 0.1 < result.waiting_share < 1
    assert result.samples_per_second > 1


def test_every_batch_is_prepared_with_its_step() -> None:
    model, steps = line(), []
    state = state_of(model)
    state.step = 7

    def prepare(batch: Pair, step: int) -> Pair:
        steps.append(step)
        return batch

    train_epoch(
        model, [pair((1.0, 2.0))] * 3, SQUARED, state, FP32, ALONE, prepare=prepare,
        on_step=lambda _: None, stop=Stop(),
    )  # fmt: skip
    assert steps == [7, 8, 9]


def test_an_epoch_that_goes_on_counts_the_steps_before() -> None:
    model = line()
    state = state_of(model)
    state.step_in_epoch, state.sums = 1, {"squared": 10.0, "gradient_norm": 3.0}
    result, heard = epoch(model, [pair((1.0, 2.0))], state=state)
    assert result is not None
    assert result.losses["squared"] == pytest.approx((10.0 + heard[0]["squared"]) / 2)


def test_an_epoch_with_no_step_left_is_that_of_the_steps_before() -> None:
    model = line()
    state = state_of(model)
    state.step_in_epoch, state.sums = 2, {"squared": 10.0, "gradient_norm": 3.0}
    result, _ = epoch(model, [], state=state)
    assert result is not None
    assert (result.losses, result.gradient_norm) == ({"squared": 5.0}, 1.5)


def test_a_stop_ends_an_epoch_after_the_step_it_is_in() -> None:
    stop, model = Stop(), line()
    state = state_of(model)

    def batches() -> Iterator[Pair]:
        yield pair((1.0, 2.0))
        stop.signal_number = 15
        yield pair((1.0, 2.0))
        yield pair((1.0, 2.0))

    result, heard = epoch(model, batches(), stop, state)  # type: ignore[arg-type]
    assert result is None
    assert (state.step, state.step_in_epoch, len(heard)) == (2, 2, 2)
    assert state.sums["squared"] == pytest.approx(sum(h["squared"] for h in heard))


# not finite


def test_a_loss_that_is_not_finite_names_its_step() -> None:
    batches = [*[pair((1.0, 2.0))] * 3, pair((float("nan"), 0.0))]
    with pytest.raises(LunaError, match=r"training diverged at step 4: \{'squared': nan.*wanted finite"):
        epoch(line(), batches)


def test_an_infinite_loss_stops_the_training() -> None:
    with pytest.raises(LunaError, match=r"at step 1: \{'squared': inf"):
        epoch(line(), [pair((1.0, 1e30))])


def test_a_gradient_that_is_not_finite_stops_the_training() -> None:
    root = Objective(
        known_counts, lambda out, _: {"squared": (0 * out).abs().sqrt().sum()}
    )  # slope at 0: inf
    model = line()
    with pytest.raises(LunaError, match=r"'squared': 0.0, 'gradient_norm': nan"):
        train_epoch(
            model, [pair((1.0, 2.0))], root, state_of(model), FP32, ALONE,
            prepare=lambda batch, _: batch, on_step=lambda _: None, stop=Stop(),
        )  # fmt: skip
