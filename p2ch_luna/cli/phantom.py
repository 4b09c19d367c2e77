"""`luna phantom`: synthetic chests with known nodules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2ch_luna.cli._common import output_option, progress

if TYPE_CHECKING:
    from p2ch_luna.geometry import CtVolume

_FIELD_MM = (358.4, 358.4, 312.5)  # x, y, z: the whole chest


@click.command()
@output_option("Folder to write; it must be new or empty.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="One a patient.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Patients, from SEED on.")
@click.option("--nodules", type=click.IntRange(0, 40), default=6, show_default=True, help="In each patient.")
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["mhd", "mha", "nii.gz", "nrrd", "dicom"]),
    default="mhd",
    show_default=True,
    help="dicom: a folder of slices.",
)
@click.option(
    "--spacing",
    type=click.FloatRange(0.3, 10.0),
    nargs=3,
    default=(0.7, 0.7, 1.25),
    show_default=True,
    help="mm along x, y, z.",
)
@click.option("--noise", type=click.FloatRange(0, 200), default=20.0, show_default=True, help="Sigma in HU.")
def phantom(
    output: Path,
    seed: int,
    count: int,
    nodules: int,
    suffix: str,
    spacing: tuple[float, float, float],
    noise: float,
) -> None:
    """Write a synthetic chest CT whose nodules are known exactly.

    The folder gets the scan, its truth `annotations.csv` in LUNA16's columns, and for one patient
    `nodules.nii.gz`, in which voxels of the k-th nodule are k.

    \b
    luna phantom -o phantom --seed 7 --nodules 10
    luna phantom -o phantom-dicom --format dicom --spacing 0.8 0.8 2.5
    """
    import numpy as np

    from p2ch_luna.datasets.phantom import make_phantom
    from p2ch_luna.files import replacing_folder
    from p2ch_luna.io import write_mask, write_nodules

    shape = [max(2, round(mm / step)) for mm, step in zip(_FIELD_MM[::-1], spacing[::-1], strict=True)]
    truth = []
    with progress() as stages, replacing_folder(output) as folder:
        for patient in range(seed, seed + count):
            stages.stage(f"making patient {patient}")
            made = make_phantom(
                np.random.default_rng(patient),
                shape_irc=shape,
                spacing_xyz=spacing,
                n_nodules=nodules,
                noise_hu=noise,
                series_uid=f"2.25.{patient + 1}" if suffix == "dicom" else f"phantom-{patient}",
            )
            stages.stage("writing")
            _write_scan(folder, made.ct, suffix)
            truth += made.truth
            if count == 1:
                write_mask(folder / "nodules.nii.gz", made.nodule_labels, made.ct.geometry)
        write_nodules(folder / "annotations.csv", truth)
    scans = f"{count} scans" if count > 1 else "a scan"
    click.echo(
        f"{scans} with {len(truth)} nodules written to {output}, truth in {output / 'annotations.csv'}"
    )


def _write_scan(folder: Path, ct: CtVolume, suffix: str) -> None:
    """One file named by its series uid, or a folder of DICOM slices."""
    from p2ch_luna.io import write_ct
    from p2ch_luna.io.dicom import write_series

    if suffix == "dicom":
        write_series(folder / f"dicom-{ct.series_uid}", ct)
    else:
        write_ct(folder / f"{ct.series_uid}.{suffix}", ct)
