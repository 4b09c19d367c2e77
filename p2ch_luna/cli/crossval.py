"""`luna crossval`: every fold held out in turn, and one score of all scans."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    cache_option,
    cache_size_option,
    device_option,
    open_cache,
    output_option,
    pick_device,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._crossval_plan import SEGMENTATION, Crossval, make_plan
from p2ch_luna.cli._folds import result_of, run_fold
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.report.crossval import CrossvalReport, FoldResult
    from p2ch_luna.training.world import World


@click.command()
@click.argument("segmentation_config", type=click.Path(path_type=Path))
@click.argument("nodule_config", type=click.Path(path_type=Path), required=False)
@click.option("--folds", required=True, metavar="FOLDS", help="All folds, as 0-9; each is held out in turn.")
@click.option("--only", metavar="FOLDS", help="Do these of them now, as 3,4; others by other jobs.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="[STAGE:]KEY=VALUE",
    help="Change one value of both configs, or of one: nodule:loop.epochs=3; repeatable.",
)
@output_option("Folder of the folds and of the result; the same one goes on with it.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the scans drawn for the 95% intervals.",
)
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
def crossval(
    segmentation_config: Path,
    nodule_config: Path | None,
    *,
    folds: str,
    only: str | None,
    overrides: tuple[str, ...],
    output: Path,
    seed: int,
    cache_folder: Path | None,
    storage: str,
    cache_size: float,
    device: str,
    threads: int | None,
) -> int:
    """Train on all folds but one, find the nodules of that one's scans, fold after fold, and score them all.

    Every scan is judged once, by networks that never saw its patient. With a NODULE_CONFIG each fold's
    segmentation also mines its training scans, a classifier learns from that, and both judge together.
    The configs' own folds are replaced by --folds. What is done is not done again: after Ctrl-C, SIGTERM or
    a crash the same command goes on. Folds may run as jobs on several machines that share the output.

    \b
    luna crossval configs/luna16.toml configs/nodule-gpu.toml --folds 0-9 -o runs/crossval
    luna crossval configs/luna16.toml --folds 0-9 --only 3,4 -o /shared/crossval
    """
    from p2ch_luna.training.world import World

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LunaError("luna crossval under torchrun; wanted one process a job: a job for each of --only")
    use_threads(threads)
    world, cache = World(pick_device(device)), open_cache(cache_folder, storage, cache_size)
    plan = make_plan(segmentation_config, nodule_config, _folds("--folds", folds), overrides, output)
    wanted = plan.folds if only is None else _folds("--only", only)
    if strange := sorted(set(wanted) - set(plan.folds)):
        raise LunaError(f"--only: fold {strange[0]} is not in --folds {folds}; wanted some of these")
    stopped = _run(plan, wanted, world, cache)
    if stopped is not None:
        return 128 + stopped
    click.echo(_as_text(_pooled(plan, seed), output))
    return 0


def _run(plan: Crossval, wanted: Sequence[int], world: World, cache: ScanCache) -> int | None:
    """Do these folds; returns the signal that has ended this before, once it is said how to go on."""
    from p2ch_luna.processes import terminable
    from p2ch_luna.training.stop import Interrupted

    for fold in wanted:
        try:
            with terminable():  # a training's own steps end with a checkpoint instead
                run_fold(plan, fold, world, cache)
        except Interrupted as interrupted:
            number, what = interrupted.signal_number, str(interrupted)
        except KeyboardInterrupt as asked:
            number = asked.args[0] if asked.args else signal.SIGINT
            what = f"stopped by {signal.Signals(number).name}"
        else:
            continue
        click.echo(f"luna: fold {fold}: {what}; the same command goes on from there", err=True)
        return number
    return None


def _folds(option: str, text: str) -> tuple[int, ...]:
    from p2ch_luna.datasets.splits import parse_folds

    try:
        return tuple(parse_folds(text))
    except LunaError as error:
        raise LunaError(f"{option}: {error}") from error


def _pooled(plan: Crossval, seed: int) -> CrossvalReport:
    """Score all folds that are done, also those of other jobs, and write the result.

    Where one of these is done meanwhile, once more: whichever job is the last writes all folds.
    """
    from p2ch_luna.config import as_toml
    from p2ch_luna.report.crossval import pool

    configs = {stage: as_toml(config) for stage, config in plan.configs.items()}
    results = _results(plan)
    while True:
        report = pool(plan.out, plan.known[SEGMENTATION], plan.folds, results, configs, seed)
        written, results = results, _results(plan)
        if len(results) == len(written):
            return report


def _results(plan: Crossval) -> list[FoldResult]:
    found = (result_of(plan, fold) for fold in plan.folds)
    return [result for result in found if result is not None]


def _as_text(report: CrossvalReport, out: Path) -> str:
    """The figures for a person: as `luna evaluate` has them, then the folds beside each other."""
    from p2ch_luna.report.evaluation.text import as_text

    lines = [as_text(report.evaluation), "", "fold  scans  nodules    CPM"]
    for fold in report.per_fold:
        cpm = "–" if fold.cpm is None else f"{fold.cpm:.3f}"
        lines.append(f"{fold.fold:4}  {fold.scans:5}  {fold.nodules:7}  {cpm:>5}")
    lines.append("")
    if report.missing_folds:
        missing = ",".join(map(str, report.missing_folds))
        lines.append(f"folds that are not done: {missing}; the figures are without them (--only {missing})")
    if report.left_out:
        lines.append(f"scans that cannot be read, in no figure: {', '.join(report.left_out)}")
    lines += [f"note: {note}" for note in report.notes]
    lists = f"--truth {out}/annotations.csv --excluded {out}/annotations_excluded.csv"
    lines.append(
        f"written: {out}/crossval.json; figures and a page: luna evaluate {out}/detections.csv {lists} "
        f"--scans {out}/seriesuids.csv --output …"
    )
    return "\n".join(lines)
