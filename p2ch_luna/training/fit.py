"""One run from its config to its model: the place where all parts of a training meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from p2ch_luna.config import DataConfig, RunConfig
from p2ch_luna.datasets.augment import Augmentation
from p2ch_luna.datasets.candidates import CropDataset
from p2ch_luna.datasets.collection import Share, Sources, load_share
from p2ch_luna.datasets.patches import CubePatches, PatchDataset, PatchSource, ScanPatches
from p2ch_luna.datasets.splits import N_FOLDS
from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_candidates
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.build import build_model
from p2ch_luna.models.checkpoint import ModelCard, save_model
from p2ch_luna.training import run_dir
from p2ch_luna.training.evaluation import Evaluation
from p2ch_luna.training.loop import EpochResult, train_one_epoch
from p2ch_luna.training.nodule import augment_crops, evaluate_nodule, nodule_loss
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.segmentation import augment_patches, evaluate_segmentation, segmentation_loss

VALIDATION_SEED = 20_000  # away from any training seed; the same patches in every epoch and run


class Listener(Protocol):
    """Who wants to know how a run goes: the command line's progress bar, or nobody."""

    def loaded(self, item: str) -> None:
        """A scan or a nodule was loaded."""

    def step(self, step: int, total: int, losses: dict[str, float]) -> None:
        """A training step was done."""

    def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
        """An epoch was done and validated."""


@dataclass(frozen=True)
class Task:
    """What differs between the tasks."""

    make_dataset: Callable[[RunConfig, Share, int, int], Dataset[Any]]  # (…, samples, seed)
    loss: Callable[..., dict[str, torch.Tensor]]
    augment: Callable[..., Any]
    evaluate: Callable[..., Evaluation]


_NO_NODULE = "no nodule in these folds: wanted data.lidc, data.cubes or data.annotations with some"


def _patches(config: RunConfig, share: Share, samples: int, seed: int) -> PatchDataset:
    sources: list[PatchSource] = [ScanPatches(share.scans, share.nodules)]
    shares = [1.0]
    if share.cubes:
        sources.append(CubePatches(share.cubes, share.nodules))
        shares = [1 - config.data.cube_share, config.data.cube_share]
    if not (share.nodules or share.cubes or any(scan.labels.any() for scan in share.scans)):
        raise LunaError(_NO_NODULE)
    return PatchDataset(sources, shares, config.data.shape_irc, samples, seed)


def _crops(config: RunConfig, share: Share, samples: int, seed: int) -> CropDataset:
    path = config.data.candidates
    here = {scan.series_uid for scan in share.scans}
    candidates = [c for c in read_candidates(Path(path)) if c.series_uid in here] if path else []
    cubes = CubePatches(share.cubes, (), largest_shift=3) if share.cubes else None
    if not (share.nodules or any(c.is_nodule for c in candidates)):
        raise LunaError(_NO_NODULE)
    return CropDataset(
        share.scans,
        share.nodules,
        cubes,
        candidates,
        config.data.shape_irc,
        samples,
        seed,
        cube_share=config.data.cube_share,
    )


TASKS = {
    "segmentation": Task(_patches, segmentation_loss, augment_patches, evaluate_segmentation),
    "nodule": Task(_crops, nodule_loss, augment_crops, evaluate_nodule),
}


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


@dataclass(eq=False)
class State:
    """All that a checkpoint holds."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    generator: torch.Generator  # of the augmentation
    epoch: int = 0  # done
    best: float = float("-inf")

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        run_dir.save_checkpoint(
            path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "generator": self.generator.get_state(),
                "torch_rng": torch.get_rng_state(),
                "epoch": self.epoch,
                "best": self.best,
            },
        )

    def load(self, path: Path, device: torch.device) -> None:
        """Go on from a checkpoint."""
        saved = run_dir.load_checkpoint(path, device)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.generator.set_state(saved["generator"].cpu())
        torch.set_rng_state(saved["torch_rng"].cpu())
        self.epoch, self.best = saved["epoch"], saved["best"]


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
    model = build_model(config.model.name, _arguments(config))
    model = model.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, config.optim.lr, config.optim.weight_decay)
    total = config.loop.epochs * config.loop.steps_per_epoch
    scheduler = warmup_cosine(optimizer, config.optim.warmup_steps, total)
    return State(model, optimizer, scheduler, torch.Generator().manual_seed(config.seed))


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
    dataset = task.make_dataset(config, share, n_samples * loop.epochs, config.seed)
    first = epoch * n_samples  # every epoch has new samples, and a resumed one the same
    loader = _loader(config, dataset, range(first, first + n_samples), device)
    how = Augmentation(**config.augmentation.model_dump())
    total = loop.epochs * loop.steps_per_epoch
    done = iter(range(epoch * loop.steps_per_epoch + 1, total + 1))

    def augmented() -> Iterator[Any]:
        for batch in loader:
            yield task.augment(batch, how, state.generator)

    return train_one_epoch(
        state.model,
        partial(task.loss, loss_weights=config.loss),
        augmented(),
        state.optimizer,
        state.scheduler,
        clip_norm=config.optim.clip_norm,
        device=device,
        on_step=lambda losses: listener.step(next(done), total, losses),
    )


def _validate(
    config: RunConfig, task: Task, share: Share, model: nn.Module, device: torch.device
) -> Evaluation:
    n_samples = config.loop.validation_samples
    dataset = task.make_dataset(config, share, n_samples, VALIDATION_SEED)
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
    if not best["metrics"]:
        raise LunaError(f"{run / run_dir.BEST}: holds no metrics; wanted those of its epoch")
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
        metrics={**best["metrics"], "epoch": best["epoch"]},
        software=run_dir.software(),
    )
    save_model(run / run_dir.MODEL, model, card)
    return run / run_dir.MODEL
