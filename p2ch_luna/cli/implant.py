"""`luna implant`: a benchmark from one's own scan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import output_option, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from p2ch_luna.findings import Nodule
    from p2ch_luna.geometry import CtVolume


@click.command()
@click.argument("host", type=click.Path(path_type=Path))
@click.option(
    "--nodules",
    "lidc",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of nodules.csv and voi/: LIDC nodules.",
)
@output_option("Folder to write; it must be new or empty.")
@click.option("--count", type=click.IntRange(1, 250), default=20, show_default=True, help="Nodules a scan.")
@click.option("--min-diameter", type=float, default=0.0, help="Leave out nodules smaller than this, in mm.")
@click.option("--max-diameter", type=float, default=30.0, show_default=True, help="… larger than this.")
@click.option("--folds", default="0-9", show_default=True, help="Of the nodules' patients, e.g. 7-9 or 0,3.")
@click.option(
    "--known", type=click.Path(path_type=Path), help="Nodules that HOST has of its own, LUNA16 columns."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def implant(
    host: Path,
    lidc: Path,
    output: Path,
    count: int,
    min_diameter: float,
    max_diameter: float,
    folds: str,
    known: Path | None,
    seed: int,
) -> None:
    """Blend real LIDC nodules into HOST, any CT, at places of its lungs that are known exactly.

    Writes the scan, `annotations.csv` and `annotations_excluded.csv` (what --known lists) in LUNA16's
    columns, and the labels `nodules.nii.gz`. Diagnose the scan, then score what was found:

    \b
    luna implant my-ct.mha --nodules lidc --folds 7-9 --output implanted
    luna diagnose implanted/my-ct-implanted-0.mhd -o out
    luna evaluate out/detections.csv --truth implanted/annotations.csv
    """
    from p2ch_luna.datasets.benchmark import known_by_host
    from p2ch_luna.datasets.implant import implant_at_random, implantable_nodules
    from p2ch_luna.datasets.splits import parse_folds
    from p2ch_luna.files import replacing_folder
    from p2ch_luna.io import read_ct, read_nodules

    with progress() as stages, replacing_folder(output) as folder:
        stages.stage(f"reading {host.name}")
        ct = read_ct(host)
        listed = read_nodules(known) if known else None
        own = known_by_host(listed, [ct.series_uid])[ct.series_uid]
        pool = implantable_nodules(lidc, parse_folds(folds), min_diameter, max_diameter)
        name = f"{ct.series_uid}-implanted-{seed}"
        stages.stage(f"implanting {count} of {len(pool)} nodules")
        done, labels, truth = implant_at_random(replace(ct, series_uid=name), pool, count, seed, own)
        stages.stage("writing")
        _write(folder, done, labels, truth, own)
    click.echo(f"{output / name}.mhd: {len(truth)} nodules, {output / 'annotations.csv'}")


def _write(
    folder: Path, ct: CtVolume, labels: NDArray[np.uint8], truth: Sequence[Nodule], own: Sequence[Nodule]
) -> None:
    """The scan, its labels, its implanted nodules, and those the host had before, under the new name."""
    from p2ch_luna.io import write_ct, write_mask, write_nodules

    excluded = [replace(nodule, series_uid=ct.series_uid) for nodule in own]
    write_ct(folder / f"{ct.series_uid}.mhd", ct)
    write_mask(folder / "nodules.nii.gz", labels, ct.geometry)
    write_nodules(folder / "annotations.csv", truth)
    write_nodules(folder / "annotations_excluded.csv", excluded)
