"""One run from its config to its model: the place where all parts of a training meet."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from p2ch_luna.config import RunConfig, as_toml
from p2ch_luna.datasets.augment import Augmentation
from p2ch_luna.datasets.collection import Sources
from p2ch_luna.datasets.data_check import check_paths
from p2ch_luna.datasets.implant import AS_IT_IS, Variety
from p2ch_luna.errors import LunaError
from p2ch_luna.io.scan_cache import ScanCache
from p2ch_luna.models.checkpoint import ModelCard
from p2ch_luna.models.precision import on_device
from p2ch_luna.training import lineage, run_dir
from p2ch_luna.training.checks import check_machine, check_unchanged, check_unseen
from p2ch_luna.training.epochs import run_epochs
from p2ch_luna.training.lineage import Split
from p2ch_luna.training.loop import Rules
from p2ch_luna.training.optim import make_optimizer, warmup_cosine
from p2ch_luna.training.plan import Listener, Plan
from p2ch_luna.training.sides import (
    VALIDATION_BATCH,
    VALIDATION_SEED,
    Samples,
    Sides,
    load_sides,
    make_batches,
)
from p2ch_luna.training.start import start_model
from p2ch_luna.training.state import State
from p2ch_luna.training.stop import Interrupted, listening
from p2ch_luna.training.tasks import TASKS, Task
from p2ch_luna.training.whole_scans import Find, whole_scans
from p2ch_luna.training.world import World

log = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def fit(
    config: RunConfig,
    run: Path,
    world: World,
    listener: Listener,
    cache: ScanCache,
    *,
    find: Find,
    resume: bool = False,
) -> Path:
    """Train as the config says in the folder `run`; returns the model file of the best epoch.

    find: how nodules are found in whole scans with the network under training.    With `resume` it goes on
    where the folder's checkpoint is; on a CPU the result is that of a run never stopped, to the last bit.
    Raises Interrupted, with a checkpoint written, on SIGTERM or SIGINT in the epochs; LunaError where the
    config does not fit the machine or the data, these have changed since the run began, or training diverged.
    """
    with _status_kept(run, world), _told_what_to_lower(config, world.device):
        check_machine(config, world)
        check_paths(Sources(**config.data.sources()))
        task = TASKS[config.task]
        state, earlier = _start(config, world, run if resume else None)
        folds = {"train": config.data.train_folds, "validation": config.data.validation_folds}
        sides = load_sides(Sources(**config.data.sources()), folds, cache, listener.loaded, world)
        split = lineage.joined(sides.split(), earlier)
        check_unseen(config, split)
        plan = _plan(config, task, sides, split, run, world, listener, find)
        if world.is_main:
            run_dir.keep_split(run, split, resume=resume)
        if resume:
            state.load(run / run_dir.LAST, world.device)
            check_unchanged(config, run, state)
            state.sums = {name: value * world.is_main for name, value in state.sums.items()}  # those of all
        network = world.network(state.model)
        if config.compute.compile:
            network = torch.compile(network)  # type: ignore[assignment]
        with listening() as stop:
            run_epochs(plan, network, state, stop)
    return run / run_dir.MODEL


def _plan(
    config: RunConfig,
    task: Task,
    sides: Sides,
    split: Split,
    run: Path,
    world: World,
    listener: Listener,
    find: Find,
) -> Plan:
    train, validation = _samples(config, task, sides, world)
    loop, n_scans = config.loop, config.validation.scans
    settings = config.model_dump(mode="json")
    return Plan(
        run=run,
        world=world,
        listener=listener,
        task=task,
        how=task.losses(**config.loss.model_dump()),
        baseline=task.baseline(sides.train),
        train=train,
        validation=validation,
        scans=whole_scans(sides.validation, n_scans, VALIDATION_SEED) if n_scans else [],
        find=find,
        augmentation=Augmentation(**config.augmentation.model_dump()),
        rules=Rules(config.optim.clip_norm, loop.accumulate, config.optim.ema, config.compute.precision),
        seed=config.seed,
        epochs=loop.epochs,
        steps_per_epoch=loop.steps_per_epoch,
        batch_size=loop.batch_size,
        best_by=loop.best_by,
        patience=loop.patience,
        frozen=tuple(config.start.frozen),
        profile_steps=config.compute.profile_steps,
        settings=settings,
        config_toml=as_toml(config),
        card=lambda metrics: _card(config, split, metrics),
    )


def _samples(config: RunConfig, task: Task, sides: Sides, world: World) -> tuple[Samples, Samples]:
    """Of training and validation."""
    loop, shares = config.loop, config.sampling.model_dump()

    def of(trains: bool, n_samples: int, seed: int, batch_size: int) -> Samples:
        return make_batches(
            task,
            sides.train if trains else sides.validation,
            shares,
            config.data.shape_irc,
            n_samples=n_samples,
            batch_size=batch_size,
            workers=loop.workers,
            seed=seed,
            trains=trains,
            world=world,
            variety=Variety(**config.implants.model_dump()) if trains else AS_IT_IS,
        )

    train = of(True, loop.steps_per_epoch * loop.batch_size, config.seed, loop.batch_size)
    whole = min(loop.batch_size // loop.accumulate, VALIDATION_BATCH)  # for any number of processes
    return train, of(False, config.validation.samples, VALIDATION_SEED, whole)


def _start(config: RunConfig, world: World, resumed: Path | None) -> tuple[State, Split]:
    """The state before the first step, the same in every process; and who taught its weights before.

    A run that is `resumed` has both in its folder: what it began with is not read again.
    """
    torch.manual_seed(config.seed)
    start, optim = config.start, config.optim
    init_from = Path(start.init_from) if start.init_from and resumed is None else None
    model, parent = start_model(
        config.model.name, _arguments(config), init_from=init_from, new=start.new, frozen=start.frozen
    )
    for part in TASKS[config.task].idle(config.loss.model_dump()):
        if part in dict(model.named_modules()):
            model.get_submodule(part).requires_grad_(False)
    if config.compute.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = on_device(model, world.device, channels_last=config.compute.channels_last)
    average = copy.deepcopy(model).requires_grad_(False) if optim.ema else None
    optimizer = make_optimizer(model, optim.lr, optim.weight_decay)
    schedule = warmup_cosine(optimizer, optim.warmup_steps, config.loop.epochs * config.loop.steps_per_epoch)
    scaler = GradScaler(world.device.type, enabled=config.compute.precision == "fp16")
    state = State(model, average, optimizer, schedule, scaler, config=as_toml(config))
    if resumed is not None:
        return state, lineage.kept(lineage.read_split(resumed / run_dir.SPLIT))
    return state, {} if parent is None else lineage.inherited(parent)


def _arguments(config: RunConfig) -> dict[str, Any]:
    return config.model.model_dump(mode="json", exclude={"name"})


def _card(config: RunConfig, split: Split, metrics: Mapping[str, float]) -> ModelCard:
    return ModelCard(
        builder=config.model.name,
        arguments=_arguments(config),
        config=config.model_dump(mode="json"),
        data=list(config.data.credits),
        split={role: list(members) for role, members in split.items()},
        metrics=dict(metrics),
        software=run_dir.software(),
    )


@contextmanager
def _status_kept(run: Path, world: World) -> Iterator[None]:
    """The run's folder says how it ended, if it did not end well."""
    try:
        yield
    except BaseException as error:
        if world.is_main and run_dir.is_run(run):
            asked = isinstance(error, Interrupted | KeyboardInterrupt)
            try:
                run_dir.set_status(run, run_dir.INTERRUPTED if asked else run_dir.FAILED)
            except LunaError as other:  # a full disk, say: what went wrong first tells more
                log.warning("%s", other)
        raise


@contextmanager
def _told_what_to_lower(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Say in one line what to do where memory is short."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_memory and not any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
            raise
        loop, shape = config.loop, "×".join(map(str, config.data.shape_irc))
        raise LunaError(
            f"out of memory on {device}: a batch of {loop.batch_size} × {shape} in {loop.accumulate} "
            f"piece(s), widths {list(config.model.widths)}; raise loop.accumulate (the same batch in smaller "
            "pieces), or lower loop.batch_size, data.shape_irc or model.widths. The last checkpoint is whole"
        ) from error
