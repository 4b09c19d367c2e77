"""Whose cubes may be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.datasets.cubes import cubes_within
from p2ch_luna.datasets.splits import Folds, fold_of
from p2ch_luna.errors import LunaError

CUBES = Path(__file__).parents[2] / "data" / "lidc" / "cubes.csv"
HEADER = "cube,first_patient,last_patient\n"
TRAIN, TEST = range(6), range(7, 10)


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "cubes.csv").write_text(text)
        return tmp_path / "cubes.csv"

    return write


def test_no_cube_may_be_of_a_test_patient(shared_data: Path) -> None:
    cubes = cubes_within(shared_data / "lidc" / "cubes", CUBES, Folds(), TRAIN)
    assert cubes
    assert not {patient for _, patients in cubes for patient in patients if fold_of(patient) in TEST}


def test_no_cube_may_be_of_the_scan_that_is_scored(shared_data: Path) -> None:
    cubes = cubes_within(shared_data / "lidc" / "cubes", CUBES, Folds(), TRAIN)
    assert not [path for path, patients in cubes if "LIDC-IDRI-0001" in patients]


def test_every_cube_in_the_table_is_on_disk(shared_data: Path) -> None:
    cubes = cubes_within(shared_data / "lidc" / "cubes", CUBES, Folds(), range(10))
    assert len(cubes) == 113
    assert all(path.is_file() for path, _ in cubes)


def test_a_cube_of_several_patients_needs_all_of_them(table: Callable[[str], Path]) -> None:
    path = table(f"{HEADER}a,LIDC-IDRI-0001,LIDC-IDRI-0003\n")
    folds = {fold_of(f"LIDC-IDRI-{n:04d}") for n in (1, 2, 3)}
    assert [p.name for p, _ in cubes_within(Path("cubes"), path, Folds(), folds)] == ["a.nii.gz"]
    assert all(not cubes_within(Path("cubes"), path, Folds(), folds - {fold}) for fold in folds)


def test_cubes_without_a_table_are_refused() -> None:
    with pytest.raises(LunaError, match=r"cubes: whose cubes\? wanted data.cube_patients"):
        cubes_within(Path("cubes"), None, Folds(), TRAIN)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"cubes.csv: No such file"):
        cubes_within(tmp_path, tmp_path / "cubes.csv", Folds(), TRAIN)


def test_a_missing_column_is_named(table: Callable[[str], Path]) -> None:
    with pytest.raises(LunaError, match=r"cubes.csv: no column 'first_patient'; found \['cube', 'patient'\]"):
        cubes_within(Path("cubes"), table("cube,patient\na,LIDC-IDRI-0001\n"), Folds(), TRAIN)


@pytest.mark.parametrize(
    "cells", ["LIDC-IDRI-0004,LIDC-IDRI-0001", "LIDC-IDRI-0001,", "LIDC-IDRI-0001", "unknown,LIDC-IDRI-0001"]
)
def test_patients_that_are_none_name_the_line(table: Callable[[str], Path], cells: str) -> None:
    path = table(f"{HEADER}a,{cells}\n")
    with pytest.raises(LunaError, match=r"cubes.csv, line 2: patients .* wanted e.g. LIDC-IDRI-0001"):
        cubes_within(Path("cubes"), path, Folds(), TRAIN)
