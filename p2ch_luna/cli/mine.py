"""`luna mine`: what the segmentation takes for nodules, for the classifier to learn from."""

from __future__ import annotations

from dataclasses import replace
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

if TYPE_CHECKING:
    import torch
    from torch import nn

    from p2ch_luna.datasets.collection import Known
    from p2ch_luna.findings import Candidate
    from p2ch_luna.io.scan_cache import ScanCache


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--segmentation",
    type=click.Path(path_type=Path),
    help="A trained segmentation, .safetensors; the bundled one if left out.",
)
@output_option("CSV of candidates to write; the config's data.candidates names it.")
@cache_option
@storage_option
@cache_size_option
@device_option
@threads_option
def mine(
    config: Path,
    segmentation: Path | None,
    output: Path,
    cache_folder: Path | None,
    storage: str,
    cache_size: float,
    device: str,
    threads: int | None,
) -> None:
    """Propose candidates in the scans and hosts of CONFIG and say which are nodules.

    A candidate nearer to a nodule than its radius is that nodule; one at an excluded finding is left
    out; the others are the false positives that the classifier has to recognise.

    \b
    luna mine configs/nodule.toml --segmentation runs/…/model.safetensors -o data/scans/candidates.csv
    """
    from p2ch_luna.config import load_config
    from p2ch_luna.datasets.collection import read_known
    from p2ch_luna.files import replacing
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.io import write_candidates
    from p2ch_luna.models.checkpoint import bundled, load_model
    from p2ch_luna.training.fit import sources_of

    sources = replace(sources_of(load_config(config).data), candidates=())  # they are yet to be written
    use_threads(threads)
    target = pick_device(device)
    known = read_known(sources)
    cache = open_cache(cache_folder, storage, cache_size)
    with progress() as stages, replacing(output) as table:
        model, _ = load_model(segmentation or bundled("segmentation"), target, "segmentation_unet")
        found = _propose(known, ready(model, target), target, cache, stages)
        write_candidates(table, found)
    click.echo(f"{len(found)} candidates written to {output}")


def _propose(
    known: Known, model: nn.Module, device: torch.device, cache: ScanCache, stages: Stages
) -> list[Candidate]:
    """Labelled candidates of every scan and host that there is; a line for each on stderr."""
    from p2ch_luna.datasets.candidates import label_candidates
    from p2ch_luna.datasets.sources import ScanError, prepare_source
    from p2ch_luna.inference.detector import propose_candidates

    scans = list(dict.fromkeys([*known.hosts, *known.validation_hosts, *known.scans]))
    stages.stage("proposing", len(scans))
    found: list[Candidate] = []
    for scan in scans:
        uid = scan.series_uid
        try:
            prepared = prepare_source(scan, cache).load()
        except ScanError as error:
            click.echo(f"luna: warning: {error}; left out", err=True)
            continue
        candidates = propose_candidates(model, prepared, device)
        labelled = label_candidates(candidates, known.nodules.get(uid, ()), known.unsure.get(uid, ()))
        n_nodules = sum(bool(c.is_nodule) for c in labelled)
        click.echo(f"{uid}: {n_nodules} nodules, {len(labelled) - n_nodules} others", err=True)
        found += labelled
        stages.advance()
    return found
