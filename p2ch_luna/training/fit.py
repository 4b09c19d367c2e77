"""One run from its config to its model: the place where all parts of a training meet."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.config import DataConfig, RunConfig
from p2ch_luna.datasets.augment import Augmentation
from p2ch_luna.datasets.collection import Share, Sources, load_share
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
from p2ch_luna.training.tasks import TASKS, Sampling, Task

VALIDATION_SEED = 20_000  # away from any training seed; the same patches in every epoch and run


class Listener(Protocol):
    """Who wants to know how a run goes: the command line's progress bar, or nobody."""

    def loaded(self, item: str) -> None:
        """A scan or a nodule was loaded."""

    def step(self, step: int, total: int, losses: dict[str, float]) -> None:
        """A training step was done."""

    def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
        """An epoch was done and validated."""


def sources_of(data: DataConfig, hosts: Sequence[str]) -> Sources:
    """The data table as the data sets want it: empty strings are absent."""

    def path(text: str) -> Path | None:
        return Path(text) if text else None

    return Sources(
        lidc=path(data.lidc),
        cubes=path(data.cubes),
        cube_patients=path(data.cube_patients),
        hosts=[Path(p) for p in hosts],
        scans=[Path(p) for p in data.scans],
        annotations=path(data.annotations),
        excluded=path(data.excluded),
    )


def fit(
    config: RunConfig,
    run: Path,
    device: torch.device,
    listener: Listener,
    cache: ScanCache | None = None,
    resume: bool = False,
) -> Path:
    """Train as the config says in the folder `run`; returns the model file of the best epoch.

    With `resume` it goes on after the last epoch that the folder has a checkpoint of.
    """
    _seed(config.seed)
    task = TASKS[config.task]
    data = config.data
    train = load_share(sources_of(data, data.hosts), data.train_folds, cache, listener.loaded)
    validation = load_share(
        sources_of(data, data.validation_hosts), data.validation_folds, cache, listener.loaded
    )
    state = _start(config, device)
    if resume:
        state.load(run / run_dir.LAST, device)
    writer = SummaryWriter(str(run))
    writer.add_text("config", f"```json\n{config.model_dump_json(indent=1)}\n```")
    try:
        for epoch in range(state.epoch, config.loop.epochs):
            result = _train_epoch(config, task, train, state, device, listener, epoch)
            evaluation = _validate(config, task, validation, state.model, device)
            _log(writer, config, epoch, result, evaluation, state)
            _keep(run, state, evaluation, epoch)
            listener.epoch(epoch + 1, config.loop.epochs, evaluation.metrics)
    finally:
        writer.close()
    return _save_best(config, run, state.model, device, train, validation)


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


def _sampling(config: RunConfig) -> Sampling:
    candidates = Path(config.data.candidates) if config.data.candidates else None
    return Sampling(config.data.shape_irc, config.data.cube_share, candidates)


def _arguments(config: RunConfig) -> dict[str, Any]:
    return config.model.model_dump(mode="json", exclude={"name"})


def _train_epoch(
    config: RunConfig,
    task: Task,
    share: Share,
    state: State,
    device: torch.device,
    listener: Listener,
    epoch: int,
) -> EpochResult:
    loop = config.loop
    n_samples = loop.steps_per_epoch * loop.batch_size
    dataset = task.make_dataset(share, _sampling(config), n_samples * loop.epochs, config.seed)
    first = epoch * n_samples  # every epoch has new samples, and a resumed one the same
    loader = _loader(config, dataset, range(first, first + n_samples), device)
    how = Augmentation(**config.augmentation.model_dump())
    total = loop.epochs * loop.steps_per_epoch
    done = iter(range(epoch * loop.steps_per_epoch + 1, total + 1))
    return train_one_epoch(
        state.model,
        partial(task.loss, loss_weights=config.loss),
        loader,
        state.optimizer,
        state.scheduler,
        clip_norm=config.optim.clip_norm,
        device=device,
        augment=lambda batch: task.augment(batch, how, state.generator),
        on_step=lambda losses: listener.step(next(done), total, losses),
    )


def _validate(
    config: RunConfig, task: Task, share: Share, model: nn.Module, device: torch.device
) -> Evaluation:
    n_samples = config.loop.validation_samples
    dataset = task.make_dataset(share, _sampling(config), n_samples, VALIDATION_SEED)
    loader = _loader(config, dataset, range(n_samples), device)
    return task.evaluate(model, loader, device, config.loss)


def _loader(
    config: RunConfig, dataset: Dataset[Any], indices: range, device: torch.device
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=config.loop.batch_size,
        sampler=indices,
        num_workers=config.loop.workers,
        pin_memory=device.type == "cuda",
    )


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


def _save_best(
    config: RunConfig, run: Path, model: nn.Module, device: torch.device, train: Share, validation: Share
) -> Path:
    best = run_dir.load_checkpoint(run / run_dir.BEST, device)
    model.load_state_dict(best["model"])
    rest = set(range(N_FOLDS)) - set(config.data.train_folds) - set(config.data.validation_folds)
    card = ModelCard(
        builder=config.model.name,
        arguments=_arguments(config),
        config=config.model_dump(mode="json"),
        data=list(config.data.credits),
        split={
            "train": train.patients,
            "validation": validation.patients,
            "untouched folds": [str(fold) for fold in sorted(rest)],
        },
        metrics={k: v for k, v in best["metrics"].items() if math.isfinite(v)} | {"epoch": best["epoch"]},
        software=run_dir.software(),
    )
    save_model(run / run_dir.MODEL, model, card)
    return run / run_dir.MODEL
