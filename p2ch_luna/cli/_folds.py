"""One fold of `luna crossval`: its runs, what they mine, and the diagnosis of its held-out scans."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import progress
from p2ch_luna.cli._crossval_plan import CANDIDATES, HELD_OUT_CANDIDATES, NODULE, SEGMENTATION, Crossval
from p2ch_luna.cli._mining import Miner, propose
from p2ch_luna.cli._training import begin_in, train_in
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from p2ch_luna.config import RunConfig
    from p2ch_luna.datasets.sources import ScanSource
    from p2ch_luna.io import ScoredPoint
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.report.crossval import FoldResult
    from p2ch_luna.training.whole_scans import Find
    from p2ch_luna.training.world import World

MINED = "candidates.json"  # the weights that proposed them
RECORD, LOCK = "fold.json", ".lock"


def run_fold(plan: Crossval, fold: int, world: World, cache: ScanCache) -> None:
    """Do what is not yet done of a fold. Raises Interrupted from a training that was stopped."""
    with _claimed(plan.folder(fold), fold):
        before = result_of(plan, fold)
        if before is not None and not before.record.left_out:  # else they may be readable by now
            click.echo(f"fold {fold}: done before", err=True)
            return
        weights = {SEGMENTATION: _trained(plan, SEGMENTATION, fold, world, cache)}
        if NODULE in plan.configs:
            _mine(plan, fold, weights[SEGMENTATION], world.device, cache)
            weights[NODULE] = _trained(plan, NODULE, fold, world, cache)
        _diagnose(plan, fold, weights, world.device, cache)


def result_of(plan: Crossval, fold: int) -> FoldResult | None:
    """What a fold has come to; None where it is not done, or was done with other scans or weights.

    Raises LunaError where it was done by other configs, or by a network that knew who is held out.
    """
    from p2ch_luna.io import read_detections
    from p2ch_luna.report.crossval import DETECTIONS, FoldResult, read_record

    folder = plan.folder(fold)
    record = read_record(folder / RECORD)
    if record is None or record.weights.keys() != plan.configs.keys():
        return None
    for stage in plan.configs:
        _check_config(folder / stage, plan.config_of(stage, fold))
        _check_unseen(plan, folder / stage, fold)
    scans = {scan.series_uid for scan in plan.held_out(fold)}
    weights = {stage: _digest(folder / stage) for stage in plan.configs}
    if weights != record.weights or scans != {*record.scans, *record.left_out}:
        return None
    return FoldResult(record, read_detections(folder / DETECTIONS))


@contextmanager
def _claimed(folder: Path, fold: int) -> Iterator[None]:
    """Keep other processes of this machine off the fold."""
    from p2ch_luna.io.file_locks import claiming

    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(claiming(folder / LOCK))
        except OSError as error:
            raise LunaError(f"{folder}: {error.strerror}; wanted a folder to write the fold to") from error
        if not is_ours:
            raise LunaError(f"fold {fold}: another process is at work in {folder}; wait, or use --only")
        yield


def _trained(plan: Crossval, stage: str, fold: int, world: World, cache: ScanCache) -> Path:
    """The model file of a stage's run: of a finished one, or trained or resumed now."""
    from p2ch_luna.training import run_dir

    run, config = plan.folder(fold) / stage, plan.config_of(stage, fold)
    resume = False
    if run_dir.is_run(run):
        _check_config(run, config)
        if run_dir.load_about(run)["status"] in (run_dir.FINISHED, run_dir.STOPPED):
            click.echo(f"fold {fold}: {stage}: trained before", err=True)
            return run / run_dir.MODEL
        resume = (run / run_dir.LAST).is_file()
        if not resume:
            shutil.rmtree(run)  # killed before its first checkpoint
    run.mkdir(parents=True, exist_ok=True)
    click.echo(f"fold {fold}: {stage}: {'going on' if resume else 'training'}", err=True)
    begin_in(run, config, world, resume=resume)
    model = train_in(run, config, world, cache, resume=resume)
    _check_unseen(plan, run, fold)
    return model


def _check_config(run: Path, config: RunConfig) -> None:
    from p2ch_luna.config import difference, load_config
    from p2ch_luna.training.run_dir import CONFIG

    if different := difference(config, load_config(run / CONFIG)):
        raise LunaError(
            f"{run}: another config: {different} as its run began; wanted the same configs and --folds, "
            "or another folder for --output"
        )


def _check_unseen(plan: Crossval, run: Path, fold: int) -> None:
    """Raise LunaError where the run has learnt from a patient whom it is to be judged by."""
    from p2ch_luna.datasets.heldout import patients_of
    from p2ch_luna.datasets.splits import check_no_leak
    from p2ch_luna.training.lineage import learnt_from, read_split
    from p2ch_luna.training.run_dir import SPLIT

    known = plan.known[SEGMENTATION]
    try:
        taught = learnt_from(read_split(run / SPLIT), known.patient_of)
        check_no_leak(taught, patients_of(known, plan.held_out(fold)))
    except LunaError as error:
        raise LunaError(f"{run}: cannot be judged by fold {fold}: {error}") from error


def _digest(run: Path) -> str:
    """SHA-256 of the run's weights; "" where it has none."""
    from p2ch_luna.models.checkpoint import load_card
    from p2ch_luna.training.run_dir import MODEL

    return load_card(run / MODEL).weights_sha256 if (run / MODEL).is_file() else ""


def _mine(plan: Crossval, fold: int, weights: Path, device: torch.device, cache: ScanCache) -> None:
    """Write what the fold's segmentation proposes, for its nodule run; once for the same weights."""
    from p2ch_luna.datasets.heldout import trainers
    from p2ch_luna.files import replacing
    from p2ch_luna.io import write_candidates
    from p2ch_luna.training.lineage import read_split
    from p2ch_luna.training.run_dir import SPLIT, is_run

    folder, known = plan.folder(fold), plan.known[NODULE]
    mined_with = {SEGMENTATION: _digest(weights.parent)}
    with suppress(OSError, ValueError):
        if json.loads((folder / MINED).read_text(encoding="utf-8")) == mined_with:
            return
    if is_run(folder / NODULE):
        raise LunaError(
            f"{folder / NODULE}: its candidates are of another segmentation than {weights}; remove this "
            "folder, and it is trained anew"
        )
    miner = Miner(weights, read_split(weights.parent / SPLIT))
    training = [*trainers(known, plan.folds, fold), *known.hosts]
    taken = {scan.series_uid for scan in training}
    held_out = [s for s in [*plan.held_out(fold), *known.validation_hosts] if s.series_uid not in taken]
    click.echo(
        f"fold {fold}: mining {len(training)} scans that train, with a segmentation that has learnt from "
        f"them: it errs less there than on unseen ones; {len(held_out)} held out are mined for validation",
        err=True,
    )
    with progress() as stages:
        for name, scans in ((CANDIDATES, training), (HELD_OUT_CANDIDATES, held_out)):
            work = [(scan, miner) for scan in scans]
            write_candidates(folder / name, propose(known, work, device, cache, stages))
    with replacing(folder / MINED) as temporary:
        temporary.write_text(json.dumps(mined_with) + "\n", encoding="utf-8")


def _diagnose(
    plan: Crossval, fold: int, weights: Mapping[str, Path], device: torch.device, cache: ScanCache
) -> None:
    """Write the fold's detections, then the record that says they are whole."""
    from p2ch_luna.io import write_detections
    from p2ch_luna.report.crossval import DETECTIONS, FoldRecord, write_record

    folder, scans = plan.folder(fold), plan.held_out(fold)
    found = _search(plan, scans, weights, device, cache)
    write_detections(folder / DETECTIONS, [mark for marks in found.values() for mark in marks])
    record = FoldRecord(
        fold=fold,
        folds=plan.folds,
        scans=tuple(found),
        left_out=tuple(scan.series_uid for scan in scans if scan.series_uid not in found),
        weights={stage: _digest(path.parent) for stage, path in weights.items()},
    )
    write_record(folder / RECORD, record)


def _search(
    plan: Crossval,
    scans: Sequence[ScanSource],
    weights: Mapping[str, Path],
    device: torch.device,
    cache: ScanCache,
) -> dict[str, list[ScoredPoint]]:
    """The marks in each scan, also where there are none; a scan that cannot be read is told and left out."""
    from p2ch_luna.datasets.sources import ScanError, prepare_source
    from p2ch_luna.io import ScoredPoint
    from p2ch_luna.metrics.matching import MAX_MARKS_PER_SCAN

    found = {}
    with progress() as stages:
        network, find = _detector(plan, weights, device)
        stages.stage("diagnosing held-out scans", len(scans))
        for scan in scans:
            try:
                prepared = prepare_source(scan, cache).load()
            except ScanError as error:
                click.echo(f"luna: warning: {error}; in no figure", err=True)
            else:
                # the score of the first beyond the limit decides how many of the marks before it count
                marks = list(find(network, prepared))[: MAX_MARKS_PER_SCAN + 1]
                found[scan.series_uid] = [
                    ScoredPoint(m.series_uid, m.center_xyz, m.probability) for m in marks
                ]
            stages.advance()
    return found


def _detector(plan: Crossval, weights: Mapping[str, Path], device: torch.device) -> tuple[nn.Module, Find]:
    """The last network, and how nodules are found with it: as `luna diagnose` does with both stages."""
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.inference.finders import classifier_finder, segmentation_finder
    from p2ch_luna.models.checkpoint import load_model

    if NODULE not in weights:
        model, _ = load_model(weights[SEGMENTATION], device, "segmentation_unet")
        return ready(model, device), segmentation_finder(device)
    model, _ = load_model(weights[NODULE], device, "nodule_classifier")
    crop_irc = plan.configs[NODULE].data.shape_irc
    return ready(model, device), classifier_finder(device, weights[SEGMENTATION], crop_irc)
