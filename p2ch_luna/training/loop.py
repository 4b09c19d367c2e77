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
CHECK_EVERY = 20  # steps between looks at the figures on a GPU: each look makes it wait
MOST_SKIPPED = 50  # steps running; the scale of float16's losses has come down by 2 ** 50 then


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
    samples_per_second: float  # of all processes; NaN where no step was left to do
    waiting_share: float  # of the time, for data; NaN likewise


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
    number and that of the pieces, but for batch norm, whose statistics are of one piece of one process.

    batch: a NamedTuple of tensors (B, ...), `hu` among them.
    """
    counts, figures = _of_all(objective.counts(batch), is_asked_to_stop, batch.hu.device, world)
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


def _of_all(
    counts: Mapping[str, Tensor], is_asked_to_stop: bool, device: torch.device, world: World
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Counts summed over the processes; among several also how many are asked to stop, in one message."""
    if world.size == 1:
        return dict(counts), {}
    # Filled where it is: a copy from the host would make a GPU wait.
    asked = torch.full((), float(is_asked_to_stop), device=device)
    total = world.sum({**counts, STOP: asked})
    return total, {STOP: total.pop(STOP)}


def parts_of(totals: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of the loss, () each: a mean, or a sum of means, over what counts."""
    return {name: (total / counts[name].clamp(min=1)).sum() for name, total in totals.items()}


def split(batch: Any, pieces: int) -> Iterator[Any]:
    """A NamedTuple of tensors (B, ...) in so many pieces of the same kind."""
    for fields in zip(*(tensor.chunk(pieces) for tensor in batch), strict=True):
        yield type(batch)(*fields)


def _together(network: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Gradients travel between processes with the last piece only."""
    inner = getattr(network, "_orig_mod", network)  # what `torch.compile` has wrapped
    if isinstance(inner, DistributedDataParallel) and not is_last:
        return inner.no_sync()
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
    every: int | None = None,
) -> EpochResult | None:
    """Train on the batches that are left of an epoch; None if it was asked to stop before its end.

    prepare: (batch on the device, step) -> the batch augmented.    on_step: hears the figures of each step,
    some steps late if `every` is above 1.    every: steps between two looks at the figures; None:
    `CHECK_EVERY` on a GPU, else 1. Stops with a LunaError at a loss or gradient that is not finite; the
    state is of no use then, and the checkpoints are from before.
    """
    every = every or (CHECK_EVERY if world.device.type == "cuda" else 1)
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
        if len(pending) == every and _look(pending, state, on_step):
            return None
        if world.size == 1 and stop.is_asked:  # several hear of it at their next look
            _look(pending, state, on_step)
            return None
        asked = time.perf_counter()
    _look(pending, state, on_step)
    seconds = time.perf_counter() - start
    return _result(state, world, n_samples, seconds, waiting)


def _result(state: State, world: World, n_samples: int, seconds: float, waiting: float) -> EpochResult:
    """Means of the epoch's figures; a resumed epoch's speed is of the steps since."""
    sums = summed(state.sums, world)
    means = {name: total / state.step_in_epoch for name, total in sums.items()}
    rates = sum_numbers({"samples": float(n_samples), "waiting": waiting / seconds}, world)
    if not rates["samples"]:
        rates = dict.fromkeys(rates, math.nan)
    norm = means.pop(GRADIENT_NORM)
    return EpochResult(means, norm, rates["samples"] / seconds, rates["waiting"] / world.size)


def summed(sums: Mapping[str, float], world: World) -> dict[str, float]:
    """Sums of an epoch's figures over all processes; the gradient's norm, which all have, of the main one."""
    return sum_numbers({k: v if world.is_main or k != GRADIENT_NORM else 0.0 for k, v in sums.items()}, world)


def sum_numbers(values: Mapping[str, float], world: World) -> dict[str, float]:
    """Each number summed over the processes; of one process they are as they were, to the last bit."""
    if world.size == 1:
        return dict(values)
    tensors = {k: torch.tensor(v, dtype=torch.float64, device=world.device) for k, v in values.items()}
    return {name: float(total) for name, total in world.sum(tensors).items()}


def _look(
    pending: list[dict[str, Tensor]], state: State, on_step: Callable[[Mapping[str, float]], None]
) -> bool:
    """Bring figures to the host, refuse what is not finite, pass on the rest; empties `pending`.

    Returns whether any process is asked to stop. With float16 a gradient may overflow: that step is skipped
    and the losses are scaled less.
    """
    asked = False
    for step, figures in enumerate(pending, start=state.step - len(pending) + 1):
        values = {name: float(figure) for name, figure in figures.items()}
        asked |= values.pop(STOP, 0.0) > 0
        _check_finite(values, step, state)
        if not math.isfinite(values[GRADIENT_NORM]):
            values[GRADIENT_NORM] = 0.0  # the step was skipped
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value
        on_step(values)
    pending.clear()
    return asked


def _check_finite(values: Mapping[str, float], step: int, state: State) -> None:
    """Raise LunaError at a loss that is not finite, or a gradient that will not become so."""
    bad = {name for name, value in values.items() if not math.isfinite(value)}
    state.skipped = state.skipped + 1 if GRADIENT_NORM in bad else 0
    if bad - {GRADIENT_NORM} or (bad and not state.scaler.is_enabled()):
        raise LunaError(
            f"training diverged at step {step}: {dict(values)}; wanted finite numbers. The last checkpoint "
            "and the best model are from before; try a lower optim.lr or optim.clip_norm"
        )
    if state.skipped >= MOST_SKIPPED:
        raise LunaError(
            f"training stands still at step {step}: the gradients of {state.skipped} steps running are not "
            "finite in float16, however little the losses are scaled; wanted finite numbers. Try "
            'compute.precision = "bf16", or a lower optim.lr'
        )


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
