"""`luna train`: one run from a config, alone or as one of the processes of `torchrun`."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    Stages,
    cache_option,
    cache_size_option,
    device_option,
    open_cache,
    pick_device,
    progress,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    import torch

    from p2ch_luna.config import RunConfig
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.training.whole_scans import Find
    from p2ch_luna.training.world import World

TOLD = (  # of an epoch's metrics, in the terminal: TensorBoard has them all
    "loss",
    "sensitivity",
    "f1",
    "dice",
    "nodule_auc",
    "malignancy_auc",
    "malignancy_auc_of_diameter",
    "cpm",
)


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the config; repeatable.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the run's folder is made.",
)
@click.option("--resume", type=click.Path(path_type=Path), help="Go on with the run in this folder.")
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    runs: Path,
    resume: Path | None,
    cache_folder: Path | None,
    storage: str,
    cache_size: float,
    device: str,
    threads: int | None,
) -> int:
    """Train a network from a CONFIG and watch it in TensorBoard.

    Scans are prepared where that was not done; for many, `luna prepare` does it in parallel before. Ctrl-C
    or SIGTERM stops after the step that is under way and leaves a checkpoint to resume from.

    \b
    luna train configs/segmentation.toml
    luna train configs/segmentation.toml --set optim.lr=1e-3 --set loop.epochs=2
    luna train --resume runs/segmentation-20260101-120000
    torchrun --nproc-per-node 8 -m p2ch_luna train configs/segmentation-gpu.toml
    tensorboard --logdir runs
    """
    if config is None and resume is None:
        raise click.UsageError("wanted a CONFIG to start a run, or --resume RUN to go on with one")
    run_config = _config(config, overrides, resume)
    use_threads(threads)
    cache = open_cache(cache_folder, storage, cache_size)
    from torch.distributed.elastic.multiprocessing.errors import record

    from p2ch_luna.training.world import join_world

    def go() -> int:
        try:
            with join_world(pick_device(device)) as world:
                return _train(run_config, resume, runs, world, cache)
        except LunaError as error:
            raise LunaError(str(error)) from None  # torchrun prints the traceback: let it be short

    if "WORLD_SIZE" not in os.environ:
        return go()
    return record(go)() or 0  # `record` tells torchrun what went wrong


def _train(run_config: RunConfig, resume: Path | None, runs: Path, world: World, cache: ScanCache) -> int:
    """Train, and return the exit code."""
    from p2ch_luna.training import run_dir
    from p2ch_luna.training.fit import fit
    from p2ch_luna.training.stop import Interrupted

    if not world.is_main:
        logging.getLogger("p2ch_luna").setLevel(logging.ERROR)  # the main process warns for all
    if resume and run_dir.load_about(resume)["status"] in (run_dir.FINISHED, run_dir.STOPPED):
        raise LunaError(
            f"{resume}: this run is done, its model is {resume / run_dir.MODEL}; nothing to resume"
        )
    run = world.from_main(_begin(run_config, resume, runs, world) if world.is_main else None)
    try:
        with _kept_if_begun(run, world, resume), progress() if world.is_main else _silent() as stages:
            shown = _Shown(stages, run_config.loop.steps_per_epoch, run_config.loop.epochs, world)
            find = _finder(run_config, world.device)
            model = fit(run_config, run, world, shown, cache, find=find, resume=resume is not None)
    except Interrupted as interrupted:
        if world.is_main:
            command = "luna" if world.size == 1 else "torchrun … -m p2ch_luna"
            click.echo(f"luna: {interrupted}; go on with: {command} train --resume {run}", err=True)
        return 128 + interrupted.signal_number  # no exception: for torchrun that would be an error
    if world.is_main:
        click.echo(str(model))
    return 0


def _config(path: Path | None, overrides: tuple[str, ...], resume: Path | None) -> RunConfig:
    """The config of a new run, or the one that a run was started with."""
    from p2ch_luna.config import difference, load_config
    from p2ch_luna.training.run_dir import CONFIG, LAST

    if resume is None:
        return load_config(path or Path(), overrides)
    run_config = load_config(resume / CONFIG)
    wanted = load_config(path or resume / CONFIG, overrides)
    if different := difference(wanted, run_config):
        raise LunaError(
            f"{resume}: another config: {different} as the run began; a resumed run keeps its config: "
            "leave the change out, or start a new run (start.init_from takes over the weights)"
        )
    if not (resume / LAST).is_file():
        raise LunaError(f"{resume / LAST}: no such file; wanted a run that has a checkpoint, to go on with")
    return run_config


def _begin(run_config: RunConfig, resume: Path | None, runs: Path, world: World) -> Path:
    """The folder of a new run, its config in it, or the one to go on with."""
    from p2ch_luna.config import as_toml
    from p2ch_luna.training import run_dir

    run = resume or run_dir.new_run_dir(runs, run_config.task)
    if resume is None:
        run_dir.begin(run, as_toml(run_config), str(world.device), world.size)
    else:
        run_dir.remove_leftovers(run)
        run_dir.set_status(run, run_dir.RUNNING)
    click.echo(f"run: {run}    (tensorboard --logdir {run.parent})", err=True)
    return run


@contextmanager
def _kept_if_begun(run: Path, world: World, resume: Path | None) -> Iterator[None]:
    """A run that never began leaves no folder: there is nothing to resume."""
    from p2ch_luna.training.run_dir import SPLIT

    try:
        yield
    except BaseException:
        if world.is_main and resume is None and not (run / SPLIT).exists():
            shutil.rmtree(run)
        raise


def _finder(run_config: RunConfig, device: torch.device) -> Find:
    """How nodules are found in whole scans: as in `luna diagnose`, with the network in training."""
    from p2ch_luna.inference.finders import classifier_finder, segmentation_finder

    if run_config.task == "segmentation":
        return segmentation_finder(device)
    path = run_config.validation.segmentation  # type: ignore[attr-defined]
    return classifier_finder(device, Path(path) if path else None, run_config.data.shape_irc)


@contextmanager
def _silent() -> Iterator[Stages]:
    yield _Nothing()


class _Nothing:
    """`Stages` of a process that has no terminal of its own."""

    def stage(self, text: str, total: float | None = None) -> None:
        """Nothing to tell."""

    def advance(self, steps: float = 1) -> None:
        """Nothing to tell."""


class _Shown:
    """Tells how the run goes: bars on a terminal, a line an epoch everywhere."""

    def __init__(self, stages: Stages, steps_per_epoch: int, epochs: int, world: World) -> None:
        self._stages = stages
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._is_main = world.is_main
        self._is_training = False
        self._start = time.monotonic()
        self._epochs_here = 0
        stages.stage("loading scans and nodules")

    def loaded(self, item: str) -> None:  # noqa: ARG002
        """One more."""
        self._stages.advance()

    def step(self, step: int, total: int, figures: Mapping[str, float]) -> None:  # noqa: ARG002
        """One more step."""
        if not self._is_training:
            epoch, done = divmod(step - 1, self._steps_per_epoch)
            self._stages.stage(f"training, epoch {epoch + 1}/{self._epochs}", self._steps_per_epoch - done)
            self._is_training = True
        self._stages.advance()

    def validating(self, done: int, total: int) -> None:
        """One more batch or whole scan."""
        if done == 1:
            self._stages.stage("validating", total)
        self._is_training = False
        self._stages.advance()

    def epoch(self, epoch: int, total: int, metrics: Mapping[str, float]) -> None:
        """A line with the validation's figures."""
        self._is_training = False
        self._epochs_here += 1
        if not self._is_main:
            return
        figures = "  ".join(f"{name} {metrics[name]:.3f}" for name in TOLD if name in metrics)
        minutes = (time.monotonic() - self._start) / 60
        to_go = minutes / self._epochs_here * (total - epoch)
        click.echo(f"epoch {epoch}/{total}  {minutes:.1f} min, {to_go:.0f} to go  {figures}", err=True)
