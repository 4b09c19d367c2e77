"""`luna mine`: what the segmentation takes for nodules, for the classifier to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import (
    device_option,
    output_option,
    pick_device,
    progress,
    threads_option,
    use_threads,
)

if TYPE_CHECKING:
    from p2ch_luna.config import DataConfig
    from p2ch_luna.findings import Nodule


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--segmentation",
    type=click.Path(path_type=Path),
    help="A trained segmentation, .safetensors; the bundled one if left out.",
)
@output_option("CSV of candidates to write; the config's data.candidates names it.")
@device_option
@threads_option
def mine(config: Path, segmentation: Path | None, output: Path, device: str, threads: int | None) -> None:
    """Propose candidates in the scans and hosts of CONFIG and say which are nodules.

    A candidate nearer to a nodule than its radius is that nodule; one at an excluded finding is left
    out; the others are the false positives that the classifier has to recognise.

    \b
    luna mine configs/nodule.toml --segmentation runs/…/model.safetensors -o data/scans/candidates.csv
    """
    from p2ch_luna.config import load_config
    from p2ch_luna.datasets.candidates import label_candidates
    from p2ch_luna.datasets.scans import prepare_file
    from p2ch_luna.files import replacing
    from p2ch_luna.inference.detector import propose_candidates
    from p2ch_luna.inference.fast import ready
    from p2ch_luna.io import write_candidates
    from p2ch_luna.io.scan_cache import ScanCache
    from p2ch_luna.models.checkpoint import bundled, load_model

    data = load_config(config).data
    use_threads(threads)
    target = pick_device(device)
    paths, nodules, excluded = _scans_and_truth(data)
    found = []
    with progress() as stages, replacing(output) as table:
        model, _ = load_model(segmentation or bundled("segmentation"), target, "segmentation_unet")
        model, cache = ready(model, target), ScanCache()
        stages.stage("proposing", len(paths))
        for path in paths:
            candidates = propose_candidates(model, prepare_file(path, cache), target)
            labelled = label_candidates(candidates, nodules, excluded)
            n_nodules = sum(bool(c.is_nodule) for c in labelled)
            click.echo(f"{path.name}: {n_nodules} nodules, {len(labelled) - n_nodules} others", err=True)
            found += labelled
            stages.advance()
        write_candidates(table, found)
    click.echo(f"{len(found)} candidates written to {output}")


def _scans_and_truth(data: DataConfig) -> tuple[list[Path], list[Nodule], list[Nodule]]:
    """The scans and hosts of a config, their nodules and their excluded findings."""
    from p2ch_luna.datasets.collection import check_annotations
    from p2ch_luna.datasets.scans import find_scans
    from p2ch_luna.io import read_nodules

    paths = find_scans([Path(p) for p in dict.fromkeys((*data.hosts, *data.validation_hosts, *data.scans))])
    nodules = read_nodules(Path(data.annotations)) if data.annotations else []
    check_annotations(data.annotations, nodules, paths)
    return paths, nodules, read_nodules(Path(data.excluded)) if data.excluded else []
