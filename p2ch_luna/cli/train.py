"""`luna train`: one run from a config, alone or as one of the processes of `torchrun`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    cache_option,
    cache_size_option,
    device_option,
    open_cache,
    pick_device,
    set_option,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._training import begin_in, train_in
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.config import RunConfig
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.training.world import World


@click.command()
@click.argument("config", type=click.Path(path_type=Path), required=False)
@set_option
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
    from p2ch_luna.training.stop import Interrupted

    if not world.is_main:
        logging.getLogger("p2ch_luna").setLevel(logging.ERROR)  # the main process warns for all
    if resume and run_dir.load_about(resume)["status"] in (run_dir.FINISHED, run_dir.STOPPED):
        raise LunaError(
            f"{resume}: this run is done, its model is {resume / run_dir.MODEL}; nothing to resume"
        )
    run = world.from_main(_begin(run_config, resume, runs, world) if world.is_main else None)
    try:
        model = train_in(run, run_config, world, cache, resume=resume is not None)
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
    from p2ch_luna.training import run_dir

    run = resume or run_dir.new_run_dir(runs, run_config.task)
    begin_in(run, run_config, world, resume=resume is not None)
    return run
