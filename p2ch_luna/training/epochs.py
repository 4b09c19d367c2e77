"""The epochs of a run: train, validate, write down, keep the best, stop when asked or when it is enough."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.datasets.augment import Augmentation, draw
from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.training import board, run_dir
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.loop import (
    EpochResult,
    Objective,
    Rules,
    observe_all,
    seed_step,
    set_training,
    sum_numbers,
    train_epoch,
)
from p2ch_luna.training.sides import Samples
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Interrupted, Stop
from p2ch_luna.training.tasks import Task
from p2ch_luna.training.whole_scans import Find, Marks, ScanScore, WholeScan, find_all, score_scans
from p2ch_luna.training.world import World


class Listener(Protocol):
    """Who wants to know how a run goes: the command line's progress bar, or nobody."""

    def loaded(self, item: str) -> None:
        """A scan or a nodule was loaded."""

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """A training step was done; the parts of its loss and the gradient's norm."""

    def validating(self, done: int, total: int) -> None:
        """So many of the validation's batches and whole scans are done."""

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        """An epoch was done and validated."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What stays the same all through a run."""

    run: Path
    world: World
    listener: Listener
    task: Task
    how: Any  # the task's losses
    baseline: Any  # what the network is compared with
    train: Samples
    validation: Samples
    scans: list[WholeScan]
    find: Find
    augmentation: Augmentation
    rules: Rules
    seed: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    best_by: str
    patience: int
    frozen: tuple[str, ...]
    profile_steps: int
    settings: Mapping[str, Any]  # the whole config
    config_toml: str  # the same as text
    card: Callable[[Mapping[str, float]], ModelCard]  # of the model with these metrics

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        task, how = self.task, self.how
        return Objective(
            lambda batch: task.counts(batch, how), lambda output, batch: task.totals(output, batch, how)
        )

    @property
    def total_steps(self) -> int:
        """Of the run."""
        return self.epochs * self.steps_per_epoch


def run_epochs(plan: Plan, network: nn.Module, state: State, stop: Stop) -> None:
    """Go on from `state` to the end of the run; `network` is its model as it is trained.

    Raises Interrupted, with a checkpoint written, when `stop` is asked.
    """
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
    world, heard = plan.world, state.step
    with board.profiling(plan.run, plan.profile_steps) if profiles else nullcontext() as profiler:

        def prepare(batch: Any, step: int) -> Any:
            if profiler is not None:
                profiler.step()  # here and not in `on_step`, which on a GPU is late
            generator = seed_step(plan.seed, step, world.rank)
            drawn = draw(plan.batch_size, plan.augmentation, generator).part(world.rank, world.size)
            changed = plan.task.augment(batch, drawn)
            if writer and step % plan.steps_per_epoch == 0:
                name = "augmentation/before above, after below"
                writer.add_image(name, plan.task.show(batch, changed), step + 1, dataformats="HWC")
            return changed

        def on_step(figures: Mapping[str, float]) -> None:
            nonlocal heard
            heard += 1
            plan.listener.step(heard, plan.total_steps, figures)
            if curves:
                curves.add(heard, figures, _rate(state))

        return train_epoch(
            network,
            plan.train.batches,
            plan.objective,
            state,
            plan.rules,
            world,
            prepare=prepare,
            on_step=on_step,
            stop=stop,
        )


def _rate(state: State) -> float:
    return float(state.scheduler.get_last_lr()[0])


def _validate(
    plan: Plan, state: State, stop: Stop, result: EpochResult, writer: SummaryWriter | None
) -> None:
    """Judge the weights, write it down, and close the epoch; the state then is one between two epochs."""
    try:
        evaluation, score = _judge(plan, state, stop)
    except Interrupted:  # the epoch is trained and not validated: a resumed run begins with that
        _interrupt(plan, state, stop)
        raise
    metrics = evaluation.metrics | (score.metrics if score else {})
    best_by = metrics[plan.best_by]
    if not math.isfinite(best_by):
        raise LunaError(
            f"validation: {plan.best_by} is {best_by} after epoch {state.epoch + 1}; wanted a number, as it "
            "picks the best epoch: are there nodules and other places in data.validation_folds?"
        )
    if writer:
        board.log_training(writer, result, _rate(state), plan.world.device, state.step)
        board.log_evaluation(writer, evaluation, state.step)
        if score:
            board.log_scans(writer, score, state.step)
        board.log_weights(writer, state.model, state.step)
        writer.flush()
    state.epoch, state.step_in_epoch, state.sums = state.epoch + 1, 0, {}
    train = {f"train_loss_{name}": value for name, value in result.losses.items()}
    entry = {"epoch": state.epoch, "step": state.step, "seconds": 0.0, "metrics": metrics | train}
    state.history = [*state.history, entry]


def _judge(plan: Plan, state: State, stop: Stop) -> tuple[Evaluation, ScanScore | None]:
    """The validation's samples and whole scans, each process its part, together the same for any number.

    Raises Interrupted in all processes when one is asked to stop: they meet when each has done its part, or
    left off.
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
    n_batches = -(-len(plan.validation.picks.sampler) // plan.batch_size)
    evaluation = plan.task.summarise(world.deal(observations, n_batches), plan.how, plan.baseline)
    return evaluation, score_scans(plan.scans, world.deal(marks, len(plan.scans))) if plan.scans else None


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


def _interrupt(plan: Plan, state: State, stop: Stop) -> None:
    """Write a checkpoint in the midst of an epoch and raise Interrupted."""
    state.sums = sum_numbers(state.sums, plan.world)
    if plan.world.is_main:
        state.save(plan.run / run_dir.LAST)
    plan.world.wait()  # nobody ends, and has all others ended, before it is written
    raise Interrupted(stop.signal_number or signal.SIGTERM, state.step)


def _finish(plan: Plan, state: State, writer: SummaryWriter) -> None:
    run_dir.save_history(plan.run, state.history)  # a kill may have come between checkpoint and history
    best = next(entry for entry in state.history if entry["epoch"] == state.best_epoch)
    board.log_settings(writer, plan.settings, {**best["metrics"], "epoch": state.best_epoch}, state.step)
    run_dir.set_status(plan.run, run_dir.STOPPED if state.epoch < plan.epochs else run_dir.FINISHED)
