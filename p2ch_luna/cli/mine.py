"""`luna mine`: what the segmentation takes for nodules, for the classifier to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2ch_luna.cli._common import (
    cache_option,
    cache_size_option,
    device_option,
    open_cache,
    output_option,
    pick_device,
    progress,
    set_option,
    storage_option,
    threads_option,
    use_threads,
)
from p2ch_luna.cli._mining import Miner, propose
from p2ch_luna.errors import LunaError

if TYPE_CHECKING:
    from p2ch_luna.datasets.collection import Known
    from p2ch_luna.datasets.sources import ScanSource

BUNDLED = "bundled"  # a RUN of this name is the model that comes with the package
HOW_TO_MINE_THEM = "train another run with other data.train_folds, or mine them all the same: --also-trained"


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Its data are mined; the config of the first RUN if left out.",
)
@set_option
@click.option("--also-trained", is_flag=True, help="Mine scans too that every RUN trained on.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Probability of a voxel that may belong to a nodule; that of luna diagnose if left out. A lower one "
    "brings more false positives, for the classifier to learn from.",
)
@output_option("CSV of candidates to write; the config's data.candidates names it.", "candidates.csv")
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
def mine(
    runs: tuple[str, ...],
    *,
    also_trained: bool,
    threshold: float | None,
    output: Path,
    device: str,
    threads: int | None,
    **options: Any,
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
        known = _known(runs[0], options["config"], options["overrides"])
        work = _shared_out(known, miners, also_trained=also_trained)
        cache = open_cache(options["cache_folder"], options["storage"], options["cache_size"])
        found = propose(known, work, target, cache, stages, threshold)
        write_candidates(table, found)
    _tell(len(found), output)


def _tell(n_found: int, output: Path) -> None:
    """How many there are; a warning if none."""
    if not n_found:
        click.echo(
            f"luna: warning: {output}: no candidate in it; luna train wants some where sampling.candidates "
            "or sampling.found_nodules is above 0: mine with another RUN, or more scans",
            err=True,
        )
    click.echo(f"{n_found} candidates written to {output}")


def _miner(run: str) -> Miner:
    """What the argument stands for."""
    from p2ch_luna.models.checkpoint import bundled, load_card, weights_at
    from p2ch_luna.training.lineage import checked, read_split
    from p2ch_luna.training.run_dir import SPLIT

    path = bundled("segmentation") if run == BUNDLED else Path(run)
    if path.is_dir():
        return Miner(weights_at(path), read_split(path / SPLIT))
    if not path.is_file():
        raise LunaError(
            f"{run}: not there; wanted a run's folder, a .safetensors file, or the word {BUNDLED}"
        )
    miner = Miner(path, checked(path, load_card(path).split))
    if "train hosts" not in miner.split:
        click.echo(f"luna: warning: {run}: does not say which hosts it trained on; none counts", err=True)
    return miner


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
