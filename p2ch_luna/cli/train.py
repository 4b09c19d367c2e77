"""`luna train`: one run from a config."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

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
) -> None:
    """Train a network from a CONFIG and watch it in TensorBoard.

    Scans are prepared where that was not done; for many, `luna prepare` does it in parallel before.

    \b
    luna train configs/segmentation.toml
    luna train configs/segmentation.toml --set optim.lr=1e-3 --set loop.epochs=2
    luna train --resume runs/segmentation-20260101-120000
    tensorboard --logdir runs
    """
    if (config is None) == (resume is None):
        raise click.UsageError("wanted a CONFIG to start a run, or --resume RUN to go on with one; not both")
    from p2ch_luna.training.fit import fit
    from p2ch_luna.training.run_dir import SPLIT, new_run_dir, save_config

    run_config = _config(config, overrides, resume)
    use_threads(threads)
    target = pick_device(device)
    cache = open_cache(cache_folder, storage, cache_size)
    run = resume or new_run_dir(runs, run_config.task)
    if resume is None:
        save_config(run, run_config.model_dump(mode="json"))
    click.echo(f"run: {run}    (tensorboard --logdir {run.parent})", err=True)
    try:
        with progress() as stages:
            model = fit(run_config, run, target, _Shown(stages), cache, resume=resume is not None)
    except LunaError:
        if resume is None and not (run / SPLIT).exists():  # it never began: nothing to resume
            shutil.rmtree(run)
        raise
    click.echo(str(model))


def _config(path: Path | None, overrides: tuple[str, ...], resume: Path | None) -> Any:
    """The config of a new run, or the one that a run was started with."""
    from p2ch_luna.config import check_config, load_config
    from p2ch_luna.training.run_dir import LAST, load_run_config

    if path is not None:
        return load_config(path, overrides)
    if overrides:
        raise LunaError("--set: a resumed run keeps its config; start a new run to change it")
    run = resume or Path()
    run_config = check_config(load_run_config(run), str(run))
    if not (run / LAST).is_file():
        raise LunaError(f"{run / LAST}: no such file; wanted a run with an epoch done, to go on with")
    return run_config


class _Shown:
    """Tells how the run goes: a bar on a terminal, a line an epoch everywhere."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._is_training = False
        self._start = time.monotonic()
        stages.stage("loading scans and nodules")

    def loaded(self, item: str) -> None:  # noqa: ARG002
        """One more."""
        self._stages.advance()

    def step(self, step: int, total: int, losses: dict[str, float]) -> None:  # noqa: ARG002
        """One more step."""
        if not self._is_training:
            self._stages.stage("training", total - step + 1)
            self._is_training = True
        self._stages.advance()

    def epoch(self, epoch: int, total: int, metrics: dict[str, float]) -> None:
        """A line with the validation's figures."""
        figures = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        minutes = (time.monotonic() - self._start) / 60
        click.echo(f"epoch {epoch}/{total}  {minutes:.1f} min  {figures}", err=True)
