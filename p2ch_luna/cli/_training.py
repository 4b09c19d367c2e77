"""How a command trains a run in a folder: the same for `luna train` and `luna crossval`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import Stages, progress

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


def begin_in(run: Path, run_config: RunConfig, world: World, *, resume: bool) -> None:
    """Write the config of a new run into its folder, or make ready the folder of one to go on with."""
    from p2ch_luna.config import as_toml
    from p2ch_luna.training import run_dir

    if resume:
        run_dir.remove_leftovers(run)
        run_dir.set_status(run, run_dir.RUNNING)
    else:
        run_dir.begin(run, as_toml(run_config), str(world.device), world.size)
    click.echo(f"run: {run}    (tensorboard --logdir {run.parent})", err=True)


def train_in(run: Path, run_config: RunConfig, world: World, cache: ScanCache, *, resume: bool) -> Path:
    """Train in a folder that was made ready, and show how it goes; returns the model file.

    A new run that never began leaves no folder. Raises Interrupted as `fit` does.
    """
    from p2ch_luna.training.fit import fit
    from p2ch_luna.training.run_dir import claimed

    with (
        _kept_if_begun(run, world, resume=resume),
        claimed(run) if world.is_main else nullcontext(),
        progress() if world.is_main else _silent() as stages,
    ):
        shown = _Shown(stages, run_config.loop.steps_per_epoch, run_config.loop.epochs, world)
        find = _finder(run_config, world.device)
        return fit(run_config, run, world, shown, cache, find=find, resume=resume)


@contextmanager
def _kept_if_begun(run: Path, world: World, *, resume: bool) -> Iterator[None]:
    """A run that never began leaves no folder: there is nothing to resume."""
    from p2ch_luna.training.run_dir import SPLIT

    try:
        yield
    except BaseException:
        if world.is_main and not resume and not (run / SPLIT).exists():
            shutil.rmtree(run)
        raise


def _finder(run_config: RunConfig, device: torch.device) -> Find:
    """How nodules are found in whole scans: as in `luna diagnose`, with the network in training."""
    from p2ch_luna.inference.finders import classifier_finder, segmentation_finder
    from p2ch_luna.training.checks import proposer

    weights = proposer(run_config)
    if weights is None:  # a segmentation proposes itself; a run without whole scans asks nobody
        return segmentation_finder(device)
    return classifier_finder(device, weights, run_config.data.shape_irc)


@contextmanager
def _silent() -> Iterator[Stages]:
    """Of a process that has no terminal of its own."""
    from p2ch_luna.inference.detector import Silent

    yield Silent()


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
        click.echo(f"epoch {epoch}/{total}  {minutes:.1f} min, {to_go:.1f} to go  {figures}", err=True)
