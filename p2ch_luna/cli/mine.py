"""`luna mine`: what the segmentation takes for nodules, for the classifier to learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    Stages,
    cache_option,
    cache_size_option,
    device_option,
    open_cache,
    output_option,
    pick_device,
    progress,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    import torch

    from p2ch_luna.datasets.collection import Known
    from p2ch_luna.datasets.sources import ScanSource
    from p2ch_luna.findings import Candidate
    from p2ch_luna.io.scan_cache import ScanCache

BUNDLED = "bundled"  # a RUN of this name is the model that comes with the package
HOW_TO_MINE_THEM = "train another run with other data.train_folds, or mine them all the same: --also-trained"

Split = Mapping[str, Sequence[str]]  # as in a run's split.json or a model's card


@dataclass(frozen=True)
class Miner:
    """A trained segmentation, and who it trained on."""

    weights: Path
    split: Split

    def trained_on(self, known: Known) -> set[str]:
        """The patients of its training side; also those whose scans were mere backgrounds there."""
        uids = [uid for kind in ("scans", "hosts") for uid in self.split.get(f"train {kind}", ())]
        return {*self.split["train"], *map(known.patient_of, uids)}


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Its data are mined; the config of the first RUN if left out.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one value of the config; repeatable.",
)
@click.option("--also-trained", is_flag=True, help="Mine scans too that every RUN trained on.")
@output_option("CSV of candidates to write; the config's data.candidates names it.", "candidates.csv")
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
def mine(
    runs: tuple[str, ...],
    *,
    config: Path | None,
    overrides: tuple[str, ...],
    also_trained: bool,
    output: Path,
    cache_folder: Path | None,
    storage: str,
    cache_size: float,
    device: str,
    threads: int | None,
) -> None:
    """Propose candidates in scans that were not trained on and say which are nodules.

    RUN is a run's folder of a segmentation, a model file, or the word bundled. Each scan and host of the
    config is searched by the first RUN that trained neither on it nor on another scan of its patient: a
    network makes fewer mistakes where it has learnt, and other ones. With runs of different folds every
    scan has one that never saw it.

    A candidate nearer to a nodule than its radius is that nodule; one at an excluded finding is left
    out; the others are the false positives that the classifier has to recognise.

    \b
    luna mine runs/segmentation-20260101-120000 -o data/scans/candidates.csv
    luna mine runs/fold-*                               each scan by a run of other folds
    luna mine bundled --config configs/nodule.toml
    """
    from p2ch_luna.files import replacing
    from p2ch_luna.io import write_candidates

    use_threads(threads)
    target = pick_device(device)
    with progress() as stages, replacing(output) as table:
        miners = [_miner(run) for run in runs]
        known = _known(runs[0], config, overrides)
        work = _shared_out(known, miners, also_trained=also_trained)
        found = _propose(known, work, target, open_cache(cache_folder, storage, cache_size), stages)
        write_candidates(table, found)
    click.echo(f"{len(found)} candidates written to {output}")


def _miner(run: str) -> Miner:
    """What the argument stands for."""
    from p2ch_luna.models.checkpoint import bundled, load_card
    from p2ch_luna.training.run_dir import MODEL, SPLIT

    path = bundled("segmentation") if run == BUNDLED else Path(run)
    if path.is_dir():
        split, weights = _read_split(path / SPLIT), path / MODEL
        if not weights.is_file():
            raise LunaError(f"{weights}: no such file; wanted a run with an epoch done, to mine with")
        return Miner(weights, _checked(path / SPLIT, split))
    if not path.is_file():
        raise LunaError(
            f"{run}: not there; wanted a run's folder, a .safetensors file, or the word {BUNDLED}"
        )
    miner = Miner(path, _checked(path, load_card(path).split))
    if "train hosts" not in miner.split:
        click.echo(f"luna: warning: {run}: does not say which hosts it trained on; none counts", err=True)
    return miner


def _read_split(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LunaError(f"{path}: {error.strerror}; wanted the folder of a run") from error
    except ValueError as error:
        raise LunaError(f"{path}: damaged: {error}; wanted who trained, as `luna train` writes it") from error


def _checked(source: Path, split: object) -> Split:
    """Without its patients everything would count as never seen."""
    if not isinstance(split, dict) or not isinstance(split.get("train"), list):
        raise LunaError(f"{source}: does not say who it trained on; wanted the patients under 'train'")
    return split


def _known(run: str, config: Path | None, overrides: Sequence[str]) -> Known:
    """The scans and tables of the config, without candidates: they are yet to be written."""
    from p2ch_luna.config import load_config
    from p2ch_luna.datasets.collection import Sources, read_known
    from p2ch_luna.training.run_dir import CONFIG

    if config is None and not Path(run).is_dir():
        raise click.UsageError(
            f"wanted --config CONFIG beside {run}: a model alone does not say what to mine"
        )
    loaded = load_config(Path(run) / CONFIG if config is None else config, overrides)
    return read_known(replace(Sources(**loaded.data.sources()), candidates=()))


def _shared_out(
    known: Known, miners: Sequence[Miner], *, also_trained: bool
) -> list[tuple[ScanSource, Miner]]:
    """Each scan with the one that searches it; those of nobody's are told on stderr."""
    scans = list(dict.fromkeys([*known.hosts, *known.validation_hosts, *known.scans]))
    if not scans:
        raise LunaError("the config names no scan; wanted data.luna16, data.scans or data.hosts to mine")
    seen = [(miner, miner.trained_on(known)) for miner in miners]
    patients = [known.patient_of(scan.series_uid) for scan in scans]
    able = [next((miner for miner, trained in seen if p not in trained), None) for p in patients]
    unseen = [(scan, miner) for scan, miner in zip(scans, able, strict=True) if miner is not None]
    trained = f"{len(scans) - len(unseen)} of {len(scans)} scans: every RUN trained on them or their patients"
    if len(unseen) == len(scans):
        return unseen
    if also_trained:
        click.echo(
            f"luna: warning: {trained}; they are mined too, with fewer false positives than on unseen scans",
            err=True,
        )
        return [(scan, miner or miners[0]) for scan, miner in zip(scans, able, strict=True)]
    if not unseen:
        raise LunaError(f"{trained}; wanted one that is unseen: {HOW_TO_MINE_THEM}")
    click.echo(f"left out: {trained}; {HOW_TO_MINE_THEM}", err=True)
    return unseen


def _propose(
    known: Known,
    work: Sequence[tuple[ScanSource, Miner]],
    device: torch.device,
    cache: ScanCache,
    stages: Stages,
) -> list[Candidate]:
    """Labelled candidates of every scan; a line for each on stderr."""
    from p2ch_luna.datasets.candidates import label_candidates
    from p2ch_luna.datasets.sources import ScanError, prepare_source
    from p2ch_luna.inference.detector import propose_candidates
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.models.checkpoint import load_model

    weights = dict.fromkeys(miner.weights for _, miner in work)
    models = {path: ready(load_model(path, device, "segmentation_unet")[0], device) for path in weights}
    stages.stage("proposing", len(work))
    found: list[Candidate] = []
    for scan, miner in work:
        uid = scan.series_uid
        stages.advance()
        try:
            prepared = prepare_source(scan, cache).load()
        except ScanError as error:
            click.echo(f"luna: warning: {error}; left out", err=True)
            continue
        candidates = propose_candidates(models[miner.weights], prepared, device)
        labelled = label_candidates(candidates, known.nodules.get(uid, ()), known.unsure.get(uid, ()))
        n_nodules = sum(bool(c.is_nodule) for c in labelled)
        click.echo(f"{uid}: {n_nodules} nodules, {len(labelled) - n_nodules} others", err=True)
        found += labelled
    return found
