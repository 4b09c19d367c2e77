"""One run from its config to its model: the place where all parts of a training meet."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.config import DataConfig, RunConfig
from p2ch_luna.datasets.augment import Augmentation
from p2ch_luna.datasets.collection import Share, Sources, check_sides, load_share, read_known
from p2ch_luna.datasets.sampling import BalancedSampler
from p2ch_luna.datasets.splits import N_FOLDS
from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.models.precision import on_device
from p2ch_luna.training import run_dir
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.loop import EpochResult, train_one_epoch
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.state import State
from p2ch_luna.training.tasks import TASKS, Task, make_samples

VALIDATION_SEED = 20_000  # away from any training seed; the same patches in every epoch and run


class Listener(Protocol):
    """Who wants to know how a run goes: the command line's progress bar, or nobody."""

    def loaded(self, item: str) -> None:
        """A scan or a nodule was loaded."""

    def step(self, step: int, total: int, losses: dict[str, float]) -> None:
        """A training step was done."""

    def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
        """An epoch was done and validated."""


@dataclass(frozen=True, eq=False)
class Sides:
    """What trains and what validates; no patient does both."""

    train: Share
    validation: Share


@dataclass(frozen=True, eq=False)
class Samples:
    """Batches of one side of the split, and what picks them."""

    batches: DataLoader[Any]
    sampler: BalancedSampler


def sources_of(data: DataConfig) -> Sources:
    """The data table as the data sets want it: empty strings are absent."""

    def path(text: str) -> Path | None:
        return Path(text) if text else None

    return Sources(
        luna16=path(data.luna16),
        scans=[Path(p) for p in data.scans],
        annotations=path(data.annotations),
        excluded=path(data.excluded),
        candidates=[Path(p) for p in data.candidates],
        hosts=[Path(p) for p in data.hosts],
        validation_hosts=[Path(p) for p in data.validation_hosts],
        lidc=path(data.lidc),
        cubes=path(data.cubes),
        cube_patients=path(data.cube_patients),
    )


def load_sides(data: DataConfig, cache: ScanCache, listener: Listener) -> Sides:
    """Load both sides of the split. Raises LunaError where a patient is on both."""
    sources = sources_of(data)
    known = read_known(sources)
    train, validation = (
        load_share(known, sources, folds, cache, listener.loaded, trains=trains)
        for folds, trains in ((data.train_folds, True), (data.validation_folds, False))
    )
    check_sides(known, train, validation)
    return Sides(train, validation)


def fit(
    config: RunConfig,
    run: Path,
    device: torch.device,
    listener: Listener,
    cache: ScanCache,
    resume: bool = False,
) -> Path:
    """Train as the config says in the folder `run`; returns the model file of the best epoch.

    With `resume` it goes on after the last epoch that the folder has a checkpoint of. Raises LunaError where
    a patient is on both sides, or the data are no longer those that the run began with.
    """
    _seed(config.seed)
    task = TASKS[config.task]
    sides = load_sides(config.data, cache, listener)
    train, validation = _samples(config, task, sides, device)
    run_dir.keep_split(run, _split(config.data, sides), resume=resume)
    state = _start(config, device)
    if resume:
        state.load(run / run_dir.LAST, device)
    writer = SummaryWriter(str(run))
    writer.add_text("config", f"```json\n{config.model_dump_json(indent=1)}\n```")
    try:
        for epoch in range(state.epoch, config.loop.epochs):
            result = _train_epoch(config, task, train, state, device, listener, epoch, writer)
            evaluation = task.evaluate(state.model, validation.batches, device, config.loss)
            _log(writer, config, epoch, result, evaluation, state)
            _keep(run, state, evaluation, epoch)
            listener.epoch(epoch + 1, config.loop.epochs, evaluation.metrics)
    finally:
        writer.close()
    return _save_best(config, run, state.model, device, sides)


def _samples(config: RunConfig, task: Task, sides: Sides, device: torch.device) -> tuple[Samples, Samples]:
    """Training and validation; the latter is the same in every epoch and run."""
    loop = config.loop
    made = []
    for share, n_samples, seed, trains in (
        (sides.train, loop.steps_per_epoch * loop.batch_size, config.seed, True),
        (sides.validation, loop.validation_samples, VALIDATION_SEED, False),
    ):
        dataset, sampler = make_samples(
            task, share, config.sampling, config.data.shape_irc, n_samples, seed, trains=trains
        )
        batches = DataLoader(
            dataset,
            batch_size=loop.batch_size,
            sampler=sampler,
            num_workers=loop.workers,
            persistent_workers=trains and loop.workers > 0,  # they keep their scans open
            pin_memory=device.type == "cuda",
        )
        made.append(Samples(batches, sampler))
    return made[0], made[1]


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for third-party code only; ours passes generators
    torch.manual_seed(seed)


def _start(config: RunConfig, device: torch.device) -> State:
    model = on_device(build_model(config.model.name, _arguments(config)), device)
    optimizer = make_optimizer(model, config.optim.lr, config.optim.weight_decay)
    total = config.loop.epochs * config.loop.steps_per_epoch
    scheduler = warmup_cosine(optimizer, config.optim.warmup_steps, total)
    return State(model, optimizer, scheduler, torch.Generator().manual_seed(config.seed))


def _arguments(config: RunConfig) -> dict[str, Any]:
    return config.model.model_dump(mode="json", exclude={"name"})


def _train_epoch(
    config: RunConfig,
    task: Task,
    train: Samples,
    state: State,
    device: torch.device,
    listener: Listener,
    epoch: int,
    writer: SummaryWriter,
) -> EpochResult:
    loop = config.loop
    train.sampler.set_epoch(epoch)  # every epoch has new samples, and a resumed one the same
    how = Augmentation(**config.augmentation.model_dump())
    total = loop.epochs * loop.steps_per_epoch
    done = iter(range(epoch * loop.steps_per_epoch + 1, total + 1))
    first: list[Any] = []

    def augment(batch: Any) -> Any:
        changed = task.augment(batch, how, state.generator)
        if not first:
            first.extend((batch, changed))
        return changed

    result = train_one_epoch(
        state.model,
        partial(task.loss, loss_weights=config.loss),
        train.batches,
        state.optimizer,
        state.scheduler,
        clip_norm=config.optim.clip_norm,
        device=device,
        augment=augment,
        on_step=lambda losses: listener.step(next(done), total, losses),
    )
    step = (epoch + 1) * loop.steps_per_epoch
    writer.add_image("augmentation/before above, after below", task.show(*first), step, dataformats="HWC")
    return result


def _log(
    writer: SummaryWriter,
    config: RunConfig,
    epoch: int,
    result: EpochResult,
    evaluation: Evaluation,
    state: State,
) -> None:
    step = (epoch + 1) * config.loop.steps_per_epoch
    for name, value in result.losses.items():
        writer.add_scalar(f"train/loss_{name}", value, step)
    writer.add_scalar("train/gradient_norm", result.gradient_norm, step)
    writer.add_scalar("train/samples_per_second", result.samples_per_second, step)
    writer.add_scalar("train/waiting_share", result.waiting_share, step)
    writer.add_scalar("train/lr", state.scheduler.get_last_lr()[0], step)
    run_dir.log_evaluation(writer, evaluation, step)
    writer.flush()


def _keep(run: Path, state: State, evaluation: Evaluation, epoch: int) -> None:
    score = evaluation.metrics[evaluation.best_by]
    if not math.isfinite(score):
        raise LunaError(
            f"validation/{evaluation.best_by} is {score} after epoch {epoch + 1}; wanted a number: "
            "are there nodules and other places in data.validation_folds?"
        )
    is_best = score > state.best
    state.epoch, state.best = epoch + 1, max(score, state.best)
    state.save(run / run_dir.LAST)
    if is_best:
        run_dir.save_checkpoint(
            run / run_dir.BEST,
            {"model": state.model.state_dict(), "epoch": epoch + 1, "metrics": evaluation.metrics},
        )


def _save_best(config: RunConfig, run: Path, model: nn.Module, device: torch.device, sides: Sides) -> Path:
    best = run_dir.load_checkpoint(run / run_dir.BEST, device)
    model.load_state_dict(best["model"])
    card = ModelCard(
        builder=config.model.name,
        arguments=_arguments(config),
        config=config.model_dump(mode="json"),
        data=list(config.data.credits),
        split=_split(config.data, sides),
        metrics={k: v for k, v in best["metrics"].items() if math.isfinite(v)} | {"epoch": best["epoch"]},
        software=run_dir.software(),
    )
    save_model(run / run_dir.MODEL, model, card)
    return run / run_dir.MODEL


def _split(data: DataConfig, sides: Sides) -> dict[str, list[str]]:
    """Who trained and who validated: patients, series uids of annotated scans and of hosts."""
    split = {}
    for side, share in (("train", sides.train), ("validation", sides.validation)):
        split[side] = sorted(share.patients)
        split[f"{side} scans"] = [scan.series_uid for scan in share.scans]
        split[f"{side} hosts"] = [scan.series_uid for scan in share.hosts]
    rest = set(range(N_FOLDS)) - set(data.train_folds) - set(data.validation_folds)
    split["untouched folds"] = [str(fold) for fold in sorted(rest)]
    return split
