"""The epochs of a run: train, validate, write down, keep the best, stop when asked or when it is enough."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any, NoReturn

from torch import nn
from torch.profiler import profile
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.datasets.augment import draw
from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import save_model
from p2ch_luna.training import board, run_dir
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.host_memory import keep_freed_memory
from p2ch_luna.training.loop import (
    EpochResult,
    observe_all,
    seed_step,
    set_training,
    summed,
    train_epoch,
)
from p2ch_luna.training.plan import Plan
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Interrupted, Stop
from p2ch_luna.training.whole_scans import Marks, ScanScore, find_all, score_scans


def run_epochs(plan: Plan, network: nn.Module, state: State, stop: Stop) -> None:
    """Go on from `state` to the end of the run; `network` is its model as it is trained.

    Raises Interrupted, with a checkpoint written, when `stop` is asked.
    """
    keep_freed_memory()
    writer = board.open_board(plan.run, state.step) if plan.world.is_main else None
    try:
        if writer and not state.step:
            board.log_config(writer, plan.config_toml, run_dir.software())
        while state.epoch < plan.epochs and not _is_enough(plan, state):
            start = time.monotonic() - state.seconds
            result = _train(plan, network, state, stop, writer)
            state.seconds = time.monotonic() - start
            if result is None:
                _interrupt(plan, state, stop)
            else:
                _validate(plan, state, stop, result, writer)
                state.seconds = time.monotonic() - start
                _keep(plan, state, writer)
                plan.listener.epoch(state.epoch, plan.epochs, state.history[-1]["metrics"])
        if writer:
            _finish(plan, state, writer)
    finally:
        if writer:
            writer.close()


def _is_enough(plan: Plan, state: State) -> bool:
    return 0 < plan.patience <= state.epoch - state.best_epoch


def _train(
    plan: Plan, network: nn.Module, state: State, stop: Stop, writer: SummaryWriter | None
) -> EpochResult | None:
    """The steps that are left of an epoch; None when it was asked to stop."""
    plan.train.go_to(state.epoch, state.step_in_epoch)  # a resumed epoch has the samples that were left
    set_training(state.model, plan.frozen)
    curves = board.LiveCurves(writer, plan.world.size) if writer else None
    profiles = writer is not None and plan.profile_steps > 0 and not state.step
    heard = state.step

    def on_step(figures: Mapping[str, float]) -> None:
        nonlocal heard
        heard += 1
        plan.listener.step(heard, plan.total_steps, figures)
        if curves:
            curves.add(heard, figures, _rate(state, heard))

    with board.profiling(plan.run, plan.profile_steps) if profiles else nullcontext() as profiler:
        try:
            return train_epoch(
                network,
                plan.train.batches,
                plan.objective,
                state,
                plan.rules,
                plan.world,
                prepare=_preparation(plan, writer, profiler),
                on_step=on_step,
                stop=stop,
            )
        finally:
            if curves:
                curves.flush()  # also before an error: the last steps tell most of why


def _preparation(
    plan: Plan, writer: SummaryWriter | None, profiler: profile | None
) -> Callable[[Any, int], Any]:
    """(batch, step) -> the batch augmented; shows the first of each epoch."""
    world = plan.world

    def prepare(batch: Any, step: int) -> Any:
        if profiler is not None:
            profiler.step()  # here and not where a step is heard of, which on a GPU is late
        generator = seed_step(plan.seed, step, world.rank)
        drawn = draw(plan.batch_size, plan.augmentation, generator).part(world.rank, world.size)
        changed = plan.task.augment(batch, drawn)
        if writer and step % plan.steps_per_epoch == 0:
            name = "augmentation/before above, after below"
            writer.add_image(name, plan.task.show(batch, changed), step + 1, dataformats="HWC")
        return changed

    return prepare


def _rate(state: State, step: int) -> float:
    """The learning rate of a step; the run's first is 1. The schedule itself is at the next one."""
    return float(state.scheduler.base_lrs[0] * state.scheduler.lr_lambdas[0](step - 1))


def _validate(
    plan: Plan, state: State, stop: Stop, result: EpochResult, writer: SummaryWriter | None
) -> None:
    """Judge the weights, write it down, and close the epoch; the state then is one between two epochs."""
    try:
        observations, marks = _gather(plan, state, stop)
    except Interrupted:  # the epoch is trained and not validated: a resumed run begins with that
        _interrupt(plan, state, stop)
    metrics: dict[str, float] = {}
    if writer:  # the others would draw the same pictures
        evaluation = plan.task.summarise(observations, plan.how, plan.baseline)
        score = score_scans(plan.scans, marks) if plan.scans else None
        metrics = evaluation.metrics | (score.metrics if score else {})
        _show(plan, state, result, evaluation, score, writer)
    metrics = plan.world.from_main(metrics)  # all agree on the best epoch, to the last bit
    best_by = metrics[plan.best_by]
    if not math.isfinite(best_by):
        raise LunaError(
            f"validation: {plan.best_by} is {best_by} after epoch {state.epoch + 1}; wanted a number, as it "
            "picks the best epoch: are there nodules and other places in data.validation_folds?"
        )
    state.epoch, state.step_in_epoch, state.sums = state.epoch + 1, 0, {}
    train = {f"train_loss_{name}": value for name, value in result.losses.items()}
    entry = {"epoch": state.epoch, "step": state.step, "seconds": 0.0, "metrics": metrics | train}
    state.history = [*state.history, entry]


def _show(
    plan: Plan,
    state: State,
    result: EpochResult,
    evaluation: Evaluation,
    score: ScanScore | None,
    writer: SummaryWriter,
) -> None:
    """An epoch in TensorBoard."""
    step = state.step
    board.log_training(writer, result, _rate(state, step), plan.world.device, step)
    board.log_evaluation(writer, evaluation, step)
    if score:
        board.log_scans(writer, score, step)
    board.log_weights(writer, state.model, step)
    writer.flush()


def _gather(plan: Plan, state: State, stop: Stop) -> tuple[list[Any], list[Marks]]:
    """Observations of the validation's batches and marks of its whole scans, of all processes.

    Each does its part; together they are the same for any number. Raises Interrupted in all processes when
    one is asked to stop: they meet when each has done its part, or left off.
    """
    world = plan.world
    world.share_buffers(state.judged)
    plan.validation.go_to(0)
    observations: list[Any] = []
    marks: list[Marks] = []
    with suppress(_LeftOffError):
        _observe(plan, state.judged, stop, observations, marks)
    if any(world.gather(stop.is_asked)):
        raise Interrupted(stop.signal_number or signal.SIGTERM, state.step)
    picks = plan.validation.picks
    n_batches = -(-len(picks.sampler) // picks.batch_size)
    return world.deal(observations, n_batches), world.deal(marks, len(plan.scans))


class _LeftOffError(Exception):
    """This process was asked to stop in the midst of a validation."""


def _observe(plan: Plan, model: nn.Module, stop: Stop, observations: list[Any], marks: list[Marks]) -> None:
    """This process's part of the validation, added to the two lists."""
    scans = plan.scans[plan.world.rank :: plan.world.size]
    total = len(plan.validation.picks) + len(scans)
    ticks = iter(range(1, total + 1))

    def tick() -> None:
        plan.listener.validating(next(ticks), total)
        if stop.is_asked:
            raise _LeftOffError

    def ticking(batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            yield batch
            tick()

    observations += observe_all(
        model,
        ticking(plan.validation.batches),
        lambda output, batch: plan.task.observe(output, batch, plan.how),
        plain=plan.task.plain,
        device=plan.world.device,
        precision=plan.rules.precision,
    )
    marks += find_all(model, scans, plan.find, lambda _: tick())


def _keep(plan: Plan, state: State, writer: SummaryWriter | None) -> None:
    """The best model so far, the checkpoint, the history: in this order, so that a kill loses none."""
    entry = state.history[-1]
    entry["seconds"] = round(state.seconds, 1)
    score = entry["metrics"][plan.best_by]
    is_best = score > state.best
    if is_best:
        state.best, state.best_epoch = score, state.epoch
    if not writer:
        return
    if is_best:
        card = plan.card({**_numbers(entry["metrics"]), "epoch": float(state.epoch)})
        save_model(plan.run / run_dir.MODEL, state.judged, card)
        board.log_card(writer, card, state.step)
    state.save(plan.run / run_dir.LAST)
    run_dir.save_history(plan.run, state.history)


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _interrupt(plan: Plan, state: State, stop: Stop) -> NoReturn:
    """Write a checkpoint in the midst of an epoch and raise Interrupted."""
    state.sums = summed(state.sums, plan.world)
    if plan.world.is_main:
        state.save(plan.run / run_dir.LAST)
    plan.world.wait()  # nobody ends, and has all others ended, before it is written
    raise Interrupted(stop.signal_number or signal.SIGTERM, state.step)


def _finish(plan: Plan, state: State, writer: SummaryWriter) -> None:
    run_dir.save_history(plan.run, state.history)  # a kill may have come between checkpoint and history
    best = next(entry for entry in state.history if entry["epoch"] == state.best_epoch)
    board.log_settings(writer, plan.settings, {**best["metrics"], "epoch": state.best_epoch}, state.step)
    run_dir.set_status(plan.run, run_dir.STOPPED if state.epoch < plan.epochs else run_dir.FINISHED)
