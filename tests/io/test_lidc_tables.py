import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc_tables import (
    ANNOTATIONS,
    CONTOURS,
    SCANS,
    SHIPPED,
    Drawn,
    LidcAnnotation,
    LidcScan,
    LidcTables,
    Outline,
    load_lidc_tables,
    read_lidc_tables,
    tables_of,
    write_lidc_tables,
)
from p2ch_luna.io.tables import read_series_uids

ROOT = Path(__file__).parents[2]
LIDC_IDRI_0001 = "1.3.6.1.4.1.14519.5.2.1.6279.6001.179049373636438705059720603192"
TRIANGLE = np.array([[10, 20], [12, 20], [11, 22]], np.int16)


@pytest.fixture
def tables() -> LidcTables:
    """Two series; the second has no annotation. Numbers are not in steps of one."""
    scans = [LidcScan(4, "1.2.4", "P4", 0.7, 2.5, 1.25), LidcScan(9, "1.2.9", None, None, None, None)]
    first = [Outline(-10.125, True, TRIANGLE), Outline(-10.125, False, TRIANGLE[:1])]
    second = [Outline(-8.875, True, TRIANGLE + 300)]
    return tables_of(
        scans,
        [
            Drawn(4, LidcAnnotation(11, "Nodule 001", (5, 1, 6, 3, 4, 1, 1, 5, 3)), first),
            Drawn(4, LidcAnnotation(15, "0", (1, *[None] * 7, 2)), second),
        ],
    )


def test_all_of_lidc_is_shipped() -> None:
    tables = load_lidc_tables()
    counts = (len(tables.scans), len(tables.annotation_id), len(tables.outline_of), len(tables.points_xy))
    assert counts == (1018, 6859, 41406, 1718862)


def test_the_shipped_tables_take_less_than_30_mb() -> None:
    arrays = [value for value in vars(load_lidc_tables()).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 30e6


def test_they_are_read_once() -> None:
    assert load_lidc_tables() is load_lidc_tables()


def test_each_shipped_file_is_below_1_mib() -> None:
    assert max(path.stat().st_size for path in SHIPPED.iterdir()) < 2**20


def test_the_first_annotation_is_the_databases() -> None:
    annotation = load_lidc_tables().annotation(1)
    assert annotation == LidcAnnotation(1, "3", (5, 1, 6, 3, 4, 1, 1, 5, 3))


def test_its_first_outline_is_the_databases() -> None:
    outline = load_lidc_tables().outlines_of(1)[0]
    assert (outline.z_mm, outline.is_included, len(outline.points_xy)) == (1550.5, True, 25)
    assert outline.points_xy[:5].tolist() == [[364, 172], [364, 171], [364, 170], [365, 169], [365, 168]]


def test_lidc_idri_0001_has_its_patient_and_four_readers() -> None:
    tables = load_lidc_tables()
    assert tables.patient_of(LIDC_IDRI_0001) == "LIDC-IDRI-0001"
    assert len(tables.annotations_of(LIDC_IDRI_0001)) == 4


def test_its_scan_is_told() -> None:
    scan = load_lidc_tables().scan(LIDC_IDRI_0001)
    assert scan is not None
    assert (scan.pixel_spacing_mm, scan.slice_thickness_mm, scan.slice_spacing_mm) == (0.703125, 2.5, 2.5)


def test_every_scan_of_luna16_has_a_patient(shared_data: Path) -> None:
    uids = read_series_uids(shared_data / "luna16" / "seriesuids.csv")
    assert None not in {load_lidc_tables().patient_of(uid) for uid in uids}


def test_one_patient_of_luna16_has_two_scans(shared_data: Path) -> None:
    patients = [
        load_lidc_tables().patient_of(uid)
        for uid in read_series_uids(shared_data / "luna16" / "seriesuids.csv")
    ]
    assert {patient for patient in patients if patients.count(patient) > 1} == {"LIDC-IDRI-0332"}


def test_the_crops_annotations_are_of_their_patients(shared_data: Path) -> None:
    tables = load_lidc_tables()
    with (shared_data / "lidc" / "nodules.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            assert {tables.series_of(int(k)) for k in row["annotation_ids"].split()} == {row["seriesuid"]}
            assert tables.patient_of(row["seriesuid"]) == row["patient_id"]


def test_an_unknown_series_has_nothing() -> None:
    tables = load_lidc_tables()
    assert (tables.patient_of("1.2.3"), tables.scan("1.2.3"), tables.annotations_of("1.2.3")) == (
        None,
        None,
        [],
    )


def test_what_is_written_is_read(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    read = read_lidc_tables(tmp_path)
    assert read.scans == tables.scans
    assert read.annotations_of("1.2.4") == tables.annotations_of("1.2.4")
    for number in (11, 15):
        for found, wanted in zip(read.outlines_of(number), tables.outlines_of(number), strict=True):
            assert found[:2] == wanted[:2]
            assert found.points_xy.tolist() == wanted.points_xy.tolist()


def test_the_same_tables_give_the_same_bytes(tables: LidcTables, tmp_path: Path) -> None:
    for name in "ab":
        write_lidc_tables(tmp_path / name, tables)
    for name in (SCANS, ANNOTATIONS, CONTOURS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_zip_holds_no_date(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    with zipfile.ZipFile(tmp_path / CONTOURS) as zipped:
        assert {entry.date_time for entry in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_was_not_rated_is_none(tables: LidcTables) -> None:
    assert tables.annotation(15).ratings == (1, *[None] * 7, 2)


def test_an_annotation_has_its_own_outlines(tables: LidcTables) -> None:
    assert [outline.points_xy[0].tolist() for outline in tables.outlines_of(15)] == [[310, 320]]


@pytest.mark.parametrize("number", [10, 12, 16])
def test_an_unknown_annotation_is_a_key_error(tables: LidcTables, number: int) -> None:
    with pytest.raises(KeyError, match=f"no annotation {number}"):
        tables.outlines_of(number)


def test_patients_are_completed(tables: LidcTables) -> None:
    other = tables_of([LidcScan(1, "1.2.9", "P9", 0.5, 2.0, 2.0)], [])
    completed = tables.completed_by(other)
    assert (completed.patient_of("1.2.4"), completed.patient_of("1.2.9")) == ("P4", "P9")
    assert list(completed.scans) == [4, 9]


def test_an_annotation_of_no_scan_is_refused() -> None:
    drawn = Drawn(1, LidcAnnotation(1, "a", (None,) * 9), [])
    with pytest.raises(ValueError, match="do not fit together"):
        tables_of([], [drawn])


@pytest.mark.parametrize("name", [SCANS, ANNOTATIONS, CONTOURS])
def test_a_missing_file_is_named(tables: LidcTables, tmp_path: Path, name: str) -> None:
    write_lidc_tables(tmp_path, tables)
    (tmp_path / name).unlink()
    with pytest.raises(LunaError, match=f"{name}: cannot be read: No such file or directory; expected"):
        read_lidc_tables(tmp_path)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_flipped_bytes_in_the_outlines_are_told(tmp_path: Path, at: float) -> None:
    shutil.copytree(SHIPPED, tmp_path / "lidc")
    content = bytearray((tmp_path / "lidc" / CONTOURS).read_bytes())
    place = int(at * len(content))
    content[place : place + 8] = bytes(byte ^ 255 for byte in content[place : place + 8])
    (tmp_path / "lidc" / CONTOURS).write_bytes(content)
    with pytest.raises(LunaError, match=r"contours.npz: damaged: .*; expected LIDC outlines"):
        read_lidc_tables(tmp_path / "lidc")


def test_outlines_cut_short_are_told(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    content = (tmp_path / CONTOURS).read_bytes()
    (tmp_path / CONTOURS).write_bytes(content[: len(content) // 2])
    with pytest.raises(LunaError, match=r"contours.npz: damaged"):
        read_lidc_tables(tmp_path)


def test_one_array_alone_is_refused(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    with (tmp_path / CONTOURS).open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(LunaError, match=r"contours.npz: damaged"):
        read_lidc_tables(tmp_path)


def test_a_pickle_is_refused(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    np.savez(tmp_path / CONTOURS, z_mm=np.array([{}]))
    with pytest.raises(LunaError, match=r"contours.npz: damaged: Object arrays cannot be loaded"):
        read_lidc_tables(tmp_path)


def test_an_absent_array_is_named(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    np.savez(tmp_path / CONTOURS, z_mm=np.zeros(3))
    with pytest.raises(
        LunaError, match=r"'n_points'; expected scans.csv, annotations.csv, contours.npz of one"
    ):
        read_lidc_tables(tmp_path)


def test_files_of_two_makings_are_refused(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    lines = (tmp_path / ANNOTATIONS).read_text().splitlines(keepends=True)
    (tmp_path / ANNOTATIONS).write_text("".join(lines[:-1]))
    with pytest.raises(LunaError, match=r"do not fit together; expected scans.csv"):
        read_lidc_tables(tmp_path)


def test_other_columns_are_named(tables: LidcTables, tmp_path: Path) -> None:
    write_lidc_tables(tmp_path, tables)
    (tmp_path / SCANS).write_text("scan,uid\n1,1.2.3\n")
    with pytest.raises(LunaError, match=r"scans.csv: columns scan, uid; expected scan_id, seriesuid, "):
        read_lidc_tables(tmp_path)


@pytest.mark.parametrize(
    ("name", "line"), [(SCANS, "x,1.2,P,1,1,1"), (ANNOTATIONS, "1,4,n,1"), (SCANS, "1,2")]
)
def test_a_row_that_is_none_names_its_line(tables: LidcTables, tmp_path: Path, name: str, line: str) -> None:
    write_lidc_tables(tmp_path, tables)
    header, _, *rest = (tmp_path / name).read_text().splitlines()
    (tmp_path / name).write_text("\n".join([header, line, *rest]))
    with pytest.raises(LunaError, match=f"{name}"):
        read_lidc_tables(tmp_path)


@pytest.mark.slow
def test_the_wheel_holds_the_tables(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "p2ch_luna", source / "p2ch_luna", symlinks=True)
    shutil.copytree(ROOT / "data" / "lidc", source / "data" / "lidc")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*wheel, "--wheel-dir", str(tmp_path), str(source)], check=True, env=environment)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as zipped:
        for name in (SCANS, ANNOTATIONS, CONTOURS, "README.md"):
            assert zipped.read(f"p2ch_luna/lidc/{name}") == (SHIPPED / name).read_bytes()
