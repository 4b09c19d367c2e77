"""Looks at the figures of several steps at once, steps that float16 skips, and what processes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from p2ch_luna.errors import LunaError
from p2ch_luna.training.loop import (
    GRADIENT_NORM,
    MOST_SKIPPED,
    EpochResult,
    Objective,
    Rules,
    summed,
    train_epoch,
    train_step,
)
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Stop
from p2ch_luna.training.world import World

CPU = torch.device("cpu")
FP32 = Rules(clip_norm=1e9, precision="fp32")
OBJECTIVE = Objective(
    lambda batch: {"mean": torch.tensor(float(len(batch.hu)))}, lambda output, _: {"mean": output.sum()}
)


class Batch(NamedTuple):
    hu: Tensor  # (B, 1)


class Pair(World):
    """Of two processes the one with this rank; the other has the same values."""

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: 2 * value for name, value in values.items()}


class OthersZero(World):
    """The other processes have zeros."""

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(values)


def main_of_two() -> Pair:
    return Pair(CPU, 0, 2)


def batches(*values: float) -> list[Batch]:
    return [Batch(torch.tensor([[float(value)]])) for value in values]


def state_of(model: nn.Module | None = None, *, scales: bool = False) -> State:
    """Nothing is learnt, so that all steps are alike."""
    model = model or nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    return State(model, None, optimizer, schedule, GradScaler("cpu", enabled=scales))


def epoch(state: State, given: list[Batch] | Iterator[Batch], **changed: Any) -> EpochResult | None:
    how = {"prepare": lambda batch, _: batch, "on_step": lambda _: None, "stop": Stop(), "world": World(CPU)}
    how |= changed
    world = how.pop("world")
    return train_epoch(state.model, given, OBJECTIVE, state, FP32, world, **how)


# looks


def test_figures_are_heard_at_every_look_and_at_the_end() -> None:
    state, when = state_of(), []
    epoch(state, batches(*range(7)), every=3, on_step=lambda _: when.append(state.step))
    assert when == [3, 3, 3, 6, 6, 6, 7]


def losses_heard(every: int) -> list[float]:
    torch.manual_seed(0)
    heard: list[float] = []
    epoch(state_of(), batches(1, 5, 2, 8), every=every, on_step=lambda figures: heard.append(figures["mean"]))
    return heard


def test_figures_that_come_late_are_those_of_their_steps() -> None:
    assert losses_heard(3) == losses_heard(1)
    assert len(set(losses_heard(1))) == 4


def test_on_the_cpu_every_step_is_looked_at() -> None:
    state, when = state_of(), []
    epoch(state, batches(1, 2, 3), on_step=lambda _: when.append(state.step))
    assert when == [1, 2, 3]


@pytest.mark.parametrize("bad", [1, 2, 3, 5])
def test_a_loss_that_is_seen_late_names_its_own_step(bad: int) -> None:
    values = [1.0] * 7
    values[bad - 1] = math.inf
    state = state_of()
    state.step = 10
    with pytest.raises(LunaError, match=rf"training diverged at step {10 + bad}: \{{'mean': (inf|-inf|nan)"):
        epoch(state, batches(*values), every=3)


def test_of_several_processes_all_stop_at_the_look_after_one_is_asked() -> None:
    state, stop = state_of(), Stop()

    def given() -> Iterator[Batch]:
        for number, batch in enumerate(batches(*range(9)), start=1):
            if number == 4:
                stop.signal_number = 15
            yield batch

    assert epoch(state, given(), every=3, stop=stop, world=main_of_two()) is None
    assert (state.step, state.sums.keys()) == (6, {"mean", GRADIENT_NORM})


def test_a_process_alone_stops_between_two_looks() -> None:
    state, heard = state_of(), []
    assert epoch(state, batches(1, 2), every=3, stop=Stop(15), on_step=heard.append) is None
    assert (state.step, len(heard)) == (1, 1)


# float16: what its scaler does is seen here with that of the CPU and a slope that float32 cannot hold, scaled

STEEP = 1e34


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # the first step is skipped
def test_a_gradient_that_overflows_is_a_step_of_norm_0() -> None:
    state, heard = state_of(scales=True), []
    scale = state.scaler.scale(torch.ones(()))
    epoch(state, batches(STEEP, 1.0), on_step=heard.append)
    assert [values[GRADIENT_NORM] for values in heard] == pytest.approx([0.0, 2**0.5])
    assert state.scaler.get_scale() == scale / 2


def test_without_a_scaler_it_is_the_end() -> None:
    with pytest.raises(LunaError, match=r"diverged at step 1: .*'gradient_norm': inf"):
        epoch(state_of(), batches(STEEP * 1e4))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_gradient_that_overflows_at_every_step_is_an_error_in_the_end() -> None:
    state, heard = state_of(scales=True), []
    with pytest.raises(
        LunaError,
        match=r"stands still at step 51: the gradients of 50 steps running are not finite in float16",
    ):
        epoch(state, batches(1.0, *[STEEP] * 99), on_step=heard.append, every=3)
    assert len(heard) == MOST_SKIPPED


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_step_that_is_made_ends_those_that_are_skipped() -> None:
    state, some = state_of(scales=True), [STEEP] * (MOST_SKIPPED - 1)
    assert epoch(state, batches(*some, 1.0, *some)) is not None


# several processes


def test_a_checkpoint_of_two_processes_has_the_norm_of_one() -> None:
    sums = {"mean": 3.0, GRADIENT_NORM: 7.0}
    parts = [summed(sums, OthersZero(CPU, rank, 2)) for rank in (0, 1)]
    assert {name: parts[0][name] + parts[1][name] for name in sums} == {"mean": 6.0, GRADIENT_NORM: 7.0}


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_epoch_of_two_processes_goes_on_with_any_number(processes: int) -> None:
    """As `fit` resumes: the main process has the sums of all, the others have zeros."""
    state = state_of()
    state.step_in_epoch, state.sums = 2, {"mean": 8.0, GRADIENT_NORM: 6.0}
    result = epoch(state, [], world=OthersZero(CPU, 0, processes))
    assert result is not None
    assert (result.losses, result.gradient_norm) == ({"mean": 4.0}, 3.0)


def test_an_epoch_with_no_step_left_has_no_speed() -> None:
    state = state_of()
    state.step_in_epoch, state.sums = 2, {"mean": 8.0, GRADIENT_NORM: 6.0}
    result = epoch(state, [])
    assert result is not None
    assert math.isnan(result.samples_per_second)
    assert math.isnan(result.waiting_share)


class Counted(DistributedDataParallel):
    """Counts the passes after which gradients do not travel."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module
        self.kept = 0

    def forward(self, hu: Tensor) -> Tensor:
        return self.module(hu)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.kept += 1
        yield


def compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")  # type: ignore[return-value]


@pytest.mark.parametrize("wrap", [lambda network: network, compiled], ids=["plain", "compiled"])
def test_gradients_travel_with_the_last_piece(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Linear(1, 1)
    network = Counted(model)
    rules = Rules(clip_norm=1e9, pieces=4, precision="fp32")
    with torch.compiler.set_stance("force_eager"):
        train_step(wrap(network), Batch(torch.ones(4, 1)), OBJECTIVE, state_of(model), rules, World(CPU))
    assert network.kept == 3
