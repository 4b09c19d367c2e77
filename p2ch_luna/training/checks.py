"""Whether a config fits the machine, the run that it goes on with, and the networks that it takes over."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

from p2ch_luna.config import NoduleRun, RunConfig, check_config, difference
from p2ch_luna.errors import LunaError
from p2ch_luna.models.checkpoint import bundled, load_card, weights_at
from p2ch_luna.models.precision import check_precision
from p2ch_luna.training import lineage, run_dir
from p2ch_luna.training.board import PROFILE_AFTER
from p2ch_luna.training.lineage import Split
from p2ch_luna.training.sides import check_batch
from p2ch_luna.training.state import State
from p2ch_luna.training.world import World

log = logging.getLogger(__name__)


def check_machine(config: RunConfig, world: World) -> None:
    """Raise LunaError where the config asks for what this machine cannot do."""
    check_batch(config.loop.batch_size, config.loop.accumulate, world.size)
    check_precision(world.device, config.compute.precision)
    compute, steps = config.compute, config.loop.steps_per_epoch
    if compute.profile_steps and steps < compute.profile_steps + PROFILE_AFTER:
        raise LunaError(
            f"compute.profile_steps = {compute.profile_steps} in epochs of {steps} steps; wanted "
            f"{PROFILE_AFTER} steps more in the first, as these come before the trace"
        )
    if compute.sync_batch_norm and (world.device.type != "cuda" or world.size == 1):
        raise LunaError(
            f"compute.sync_batch_norm = true with {world.size} process(es) on {world.device.type}; "
            "wanted false, or several processes on CUDA"
        )


def check_unchanged(config: RunConfig, run: Path, state: State) -> None:
    """Raise LunaError where the run's folder is no longer that of the checkpoint in it."""
    path = run / run_dir.LAST
    if different := difference(config, check_config(tomllib.loads(state.config), str(path))):
        raise LunaError(
            f"{run / run_dir.CONFIG}: {different} as {path} says the run began; wanted that config: change "
            "it back, or start a new run"
        )
    if state.best_epoch and not (run / run_dir.MODEL).is_file():
        raise LunaError(
            f"{run / run_dir.MODEL}: is gone, the model of epoch {state.best_epoch}; wanted it where it was: "
            "put it back, or start a new run"
        )


def proposer(config: RunConfig) -> Path | None:
    """The segmentation that proposes where a classifier looks into whole scans; None where none is needed.

    Raises LunaError where it is not there.
    """
    if not isinstance(config, NoduleRun) or not config.validation.scans:
        return None
    named = config.validation.segmentation
    try:
        return weights_at(Path(named)) if named else bundled("segmentation")
    except LunaError as error:
        raise LunaError(f"validation.segmentation: {error}, best what mined data.candidates") from error


def check_unseen(config: RunConfig, split: Split) -> None:
    """Who validates must be new to the networks that this one begins with or works with.

    What these have learnt by heart makes every figure too good: LunaError for start.init_from. What
    proposes in whole scans changes nothing but their FROC: a warning, unless that picks the best epoch.
    """
    if seen := lineage.seen_by(lineage.kept(split), split):
        raise LunaError(
            f"start.init_from = {config.start.init_from}: trained on {seen}; wanted weights of the same "
            "data.train_folds, or other data.validation_folds"
        )
    weights = proposer(config)
    seen = lineage.seen_by(load_card(weights).split, split) if weights else ""
    if not seen:
        return
    told = f"validation.segmentation = {weights}: trained on {seen}; in whole scans it finds too well"
    if config.loop.best_by == "cpm":
        raise LunaError(
            f"{told}, and loop.best_by = 'cpm' picks the best epoch by that; wanted a segmentation of the "
            "same data.train_folds"
        )
    log.warning("%s", told)
