"""The loop: one step, one epoch, one validation. All that they touch is in their signatures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from p2ch_luna.errors import LunaError
from p2ch_luna.models.precision import Precision, autocast
from p2ch_luna.training.optim import update_average
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Stop
from p2ch_luna.training.world import World

GRADIENT_NORM, STOP = "gradient_norm", "stop"
CHECK_EVERY = 20  # steps between looks at the losses on a GPU: each look makes it wait


@dataclass(frozen=True)
class Objective:
    """What is minimised: the sum over the parts of total / count, both over the whole batch.

    counts: (batch) -> count of each part, from the truth alone.
    totals: (output, batch) -> float32 total of each part, of the shape of its count.
    """

    counts: Callable[[Any], Mapping[str, Tensor]]
    totals: Callable[[Any, Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Rules:
    """How a step is made."""

    clip_norm: float
    pieces: int = 1  # that a batch is computed in, for what one pass needs of memory
    ema: float = 0.0  # decay of the averaged weights
    precision: Precision = "auto"


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of training was like; losses are means over its steps and all processes."""

    losses: dict[str, float]
    gradient_norm: float
    samples_per_second: float  # of all processes
    waiting_share: float  # of the time, for data


def train_step(
    network: nn.Module,
    batch: Any,
    objective: Objective,
    state: State,
    rules: Rules,
    world: World,
    *,
    is_asked_to_stop: bool = False,
) -> dict[str, Tensor]:
    """Update the model on one batch, augmented and on its device.

    Returns this process's share of each part of the loss, the gradient's norm, and among several processes
    how many are asked to stop. The gradient is that of the whole batch of all processes, whatever their
    number and that of the pieces. batch: a NamedTuple of tensors (B, ...), `hu` among them.
    """
    counts = dict(objective.counts(batch))
    asked = {STOP: torch.tensor(float(is_asked_to_stop), device=batch.hu.device)} if world.size > 1 else {}
    counts = world.sum({**counts, **asked})
    figures: dict[str, Tensor] = {STOP: counts.pop(STOP)} if asked else {}
    pieces = list(split(batch, rules.pieces))
    for number, piece in enumerate(pieces, start=1):
        with _together(network, number == len(pieces)):
            with autocast(piece.hu.device, rules.precision):
                output = network(piece.hu)
            parts = parts_of(objective.totals(output, piece), counts)
            loss = torch.stack(list(parts.values())).sum()
            # DistributedDataParallel takes the mean over processes; the counts are of all of them.
            state.scaler.scale(loss * world.size).backward()  # type: ignore[no-untyped-call]
        for name, part in parts.items():
            figures[name] = figures.get(name, 0) + part.detach()
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    figures[GRADIENT_NORM] = nn.utils.clip_grad_norm_(parameters, rules.clip_norm).detach()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.scheduler.step()
    if state.average is not None:
        update_average(state.average, state.model, rules.ema, state.step)
    state.step += 1
    state.step_in_epoch += 1
    return figures


def parts_of(totals: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss, () each: a mean, or a sum of means, over what counts."""
    return {name: (total / counts[name].clamp(min=1)).sum() for name, total in totals.items()}


def split(batch: Any, pieces: int) -> Iterator[Any]:
    """A NamedTuple of tensors (B, ...) in so many pieces of the same kind."""
    for fields in zip(*(tensor.chunk(pieces) for tensor in batch), strict=True):
        yield type(batch)(*fields)


def _together(network: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Gradients travel between processes with the last piece only."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        return network.no_sync()
    return nullcontext()


def train_epoch(
    network: nn.Module,
    batches: Iterable[Any],
    objective: Objective,
    state: State,
    rules: Rules,
    world: World,
    *,
    prepare: Callable[[Any, int], Any],
    on_step: Callable[[Mapping[str, float]], None],
    stop: Stop,
) -> EpochResult | None:
    """Train on the batches that are left of an epoch; None if it was asked to stop before its end.

    prepare: (batch on the device, step) -> the batch augmented.    on_step: hears the figures of each step,
    some steps late on a GPU. Stops with a LunaError at a loss or gradient that is not finite; the state is
    of no use then, and the checkpoints are from before.
    """
    every = CHECK_EVERY if world.device.type == "cuda" else 1
    pending: list[dict[str, Tensor]] = []
    waiting, n_samples = 0.0, 0
    start = asked = time.perf_counter()
    for batch in batches:
        waiting += time.perf_counter() - asked
        ready = prepare(to_device(batch, world.device), state.step)
        pending.append(
            train_step(network, ready, objective, state, rules, world, is_asked_to_stop=stop.is_asked)
        )
        n_samples += len(batch[0])
        if len(pending) == every and _look(pending, state, on_step, may_overflow=state.scaler.is_enabled()):
            return None
        if world.size == 1 and stop.is_asked:
            _look(pending, state, on_step, may_overflow=state.scaler.is_enabled())
            return None
        asked = time.perf_counter()
    _look(pending, state, on_step, may_overflow=state.scaler.is_enabled())
    seconds = time.perf_counter() - start
    return _result(state, world, n_samples, seconds, waiting)


def _result(state: State, world: World, n_samples: int, seconds: float, waiting: float) -> EpochResult:
    """Means of the epoch's figures; a resumed epoch's speed is of the steps since."""
    rates = {"samples": float(n_samples), "waiting": waiting / seconds}
    total = sum_numbers({**state.sums, **rates}, world)
    means = {name: total[name] / state.step_in_epoch for name in state.sums}
    norm = means.pop(GRADIENT_NORM) / world.size  # the same in every process
    return EpochResult(means, norm, total["samples"] / seconds, total["waiting"] / world.size)


def sum_numbers(values: Mapping[str, float], world: World) -> dict[str, float]:
    """Each number summed over the processes; of one process they are as they were, to the last bit."""
    if world.size == 1:
        return dict(values)
    tensors = {k: torch.tensor(v, dtype=torch.float64, device=world.device) for k, v in values.items()}
    return {name: float(total) for name, total in world.sum(tensors).items()}


def _look(
    pending: list[dict[str, Tensor]],
    state: State,
    on_step: Callable[[Mapping[str, float]], None],
    *,
    may_overflow: bool,
) -> bool:
    """Bring figures to the host, refuse what is not finite, pass on the rest; empties `pending`.

    Returns whether any process is asked to stop. With float16 a gradient may overflow: that step is skipped
    and the losses are scaled less.
    """
    asked = False
    for number, figures in enumerate(pending):
        values = {name: float(figure) for name, figure in figures.items()}
        asked |= values.pop(STOP, 0.0) > 0
        norm = values.pop(GRADIENT_NORM)
        if not all(map(math.isfinite, values.values())) or not (may_overflow or math.isfinite(norm)):
            step = state.step - len(pending) + number + 1
            raise LunaError(
                f"training diverged at step {step}: {values | {GRADIENT_NORM: norm}}; wanted finite "
                "numbers. The last checkpoint and the best model are from before; try a lower optim.lr or "
                "optim.clip_norm"
            )
        values[GRADIENT_NORM] = norm if math.isfinite(norm) else 0.0
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        on_step(values)
    pending.clear()
    return asked


@torch.no_grad()
def observe_all(
    model: nn.Module,
    batches: Iterable[Any],
    observe: Callable[[Any, Any], Any],
    *,
    plain: Callable[[Any], Any],
    device: torch.device,
    precision: Precision = "auto",
) -> list[Any]:
    """What a task observes of each batch: of the model's output, in evaluation mode, and of the truth."""
    model.eval()
    found = []
    for batch in batches:
        ready = plain(to_device(batch, device))
        with autocast(device, precision):
            output = model(ready.hu)
        answers = [output] if isinstance(output, Tensor) else [part for part in output if part is not None]
        if not all(bool(answer.isfinite().all()) for answer in answers):
            raise LunaError(
                "validation: the network answers NaN or infinity; wanted numbers: has it diverged?"
            )
        found.append(observe(output, ready))
    return found


def to_device(batch: Any, device: torch.device) -> Any:
    """A NamedTuple of tensors, moved."""
    return type(batch)(*(tensor.to(device, non_blocking=True) for tensor in batch))


def set_training(model: nn.Module, frozen: Sequence[str] = ()) -> None:
    """Training mode, but for the frozen parts: their batch norms keep the statistics that they have."""
    model.train()
    for name in frozen:
        model.get_submodule(name).eval()


def seed_step(seed: int, step: int, rank: int) -> torch.Generator:
    """Seed torch for one step of one process; the generator returned is the same in all processes."""
    own, common = (
        int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> 1)
        for key in ((step, 1 + rank), (step, 0))
    )
    torch.manual_seed(own)
    return torch.Generator().manual_seed(common)
