"""What each side of a split owns: real tables, small phantoms."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.collection import Share, Sources, cubes_of_folds, load_share, scan_fold
from p2ch_luna.datasets.phantom import make_phantom
from p2ch_luna.datasets.splits import fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import write_ct, write_nodules
from p2ch_luna.io.lidc import LidcNodule

CUBES = Path(__file__).parents[2] / "data" / "lidc" / "cubes.csv"
HEADER = "cube,first_patient,last_patient\n"
TRAIN, VALIDATION, TEST = range(6), [6], range(7, 10)
UIDS = {0: "1.2.840.8", 6: "1.2.840.9"}  # a series uid of this fold


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LUNA16's layout: a folder of .mhd, one scan in each of two folds, and annotations.csv beside it."""
    folder = tmp_path_factory.mktemp("luna16")
    truth: list[Nodule] = []
    for fold, uid in UIDS.items():
        phantom = make_phantom(
            np.random.default_rng(fold), shape_irc=(60, 96, 96), spacing_xyz=(4.0, 4.0, 5.0),
            n_nodules=2, diameters_mm=[16, 18], series_uid=uid,
        )  # fmt: skip
        write_ct(folder / "subset0" / f"{uid}.mhd", phantom.ct)
        truth += phantom.truth
    write_nodules(folder / "annotations.csv", truth)
    return folder


@pytest.fixture(scope="module")
def sources(scans: Path) -> Sources:
    """The annotated scans alone."""
    return Sources(
        lidc=None,
        cubes=None,
        cube_patients=None,
        hosts=[],
        scans=[scans / "subset0"],
        annotations=scans / "annotations.csv",
        excluded=None,
    )


@pytest.fixture(scope="module")
def share(sources: Sources) -> Callable[[int], Share]:
    """What one fold owns, loaded once."""
    loaded = {fold: load_share(sources, [fold]) for fold in UIDS}
    return loaded.__getitem__


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "cubes.csv").write_text(text)
        return tmp_path / "cubes.csv"

    return write


def row(series_uid: str, patient_id: str) -> LidcNodule:
    return LidcNodule("a", patient_id, series_uid, (0.0, 0.0, 0.0), 5.0, None, Path("a.nii.gz"))


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nii", ".nii.gz", ".nrrd", ".nhdr"])
def test_a_scan_is_in_the_fold_of_its_patient_in_any_format(suffix: str) -> None:
    table = [row("1.2.3", "LIDC-IDRI-0003")]
    assert scan_fold(Path(f"1.2.3{suffix}"), table) == fold_of("LIDC-IDRI-0003") == 7


def test_a_scan_of_an_unknown_patient_is_in_the_fold_of_its_uid() -> None:
    assert scan_fold(Path("1.2.4.nii.gz"), [row("1.2.3", "LIDC-IDRI-0003")]) == fold_of("1.2.4")


@pytest.mark.parametrize("fold", UIDS)
def test_an_annotated_scan_is_on_the_side_of_its_fold_alone(share: Callable[[int], Share], fold: int) -> None:
    assert [scan.series_uid for scan in share(fold).scans] == [UIDS[fold]]


@pytest.mark.parametrize("fold", UIDS)
def test_an_annotated_scan_has_its_own_nodules(share: Callable[[int], Share], fold: int) -> None:
    assert share(fold).scans[0].labels.max() == 2


def test_no_patient_is_on_both_sides(shared_data: Path, sources: Sources) -> None:
    real = replace(
        sources, cubes=shared_data / "lidc" / "cubes", cube_patients=CUBES, lidc=shared_data / "lidc"
    )
    train, validation = load_share(real, TRAIN[:1]), load_share(real, VALIDATION)
    assert train.nodules
    assert validation.nodules
    assert train.cubes
    assert not set(train.patients) & set(validation.patients)


def test_a_host_is_on_every_side(sources: Sources, scans: Path) -> None:
    host = scans / "subset0" / f"{UIDS[0]}.mhd"
    found = load_share(replace(sources, hosts=[host], scans=[]), [3])
    assert [scan.series_uid for scan in found.scans] == [UIDS[0]]


def test_each_item_loaded_is_told(sources: Sources) -> None:
    heard: list[str] = []
    load_share(sources, [0], on_item=heard.append)
    assert heard == [f"{UIDS[0]}.mhd"]


def test_folds_without_a_scan_are_refused(sources: Sources) -> None:
    with pytest.raises(LunaError, match=r"no scan in folds \[3\]: wanted data.hosts or data.scans"):
        load_share(sources, [3])


def test_annotations_of_other_scans_are_refused(sources: Sources, tmp_path: Path) -> None:
    write_nodules(tmp_path / "other.csv", [Nodule("9.9.9", (0.0, 0.0, 0.0), 5.0)])
    with pytest.raises(
        LunaError, match=r"other.csv: its nodules are of no scan .* 9\.9\.9; .* 1\.2\.840\.8$"
    ):
        load_share(replace(sources, annotations=tmp_path / "other.csv"), [0])


def test_a_fold_without_annotated_nodules_is_no_error(sources: Sources, tmp_path: Path) -> None:
    write_nodules(tmp_path / "one.csv", [Nodule(UIDS[6], (0.0, 0.0, 0.0), 5.0)])
    assert load_share(replace(sources, annotations=tmp_path / "one.csv"), [0]).scans[0].labels.max() == 0


def test_no_cube_may_be_of_a_test_patient(shared_data: Path) -> None:
    cubes = cubes_of_folds(shared_data / "lidc" / "cubes", CUBES, TRAIN)
    assert cubes
    assert not {patient for _, patients in cubes for patient in patients if fold_of(patient) in TEST}


def test_no_cube_may_be_of_the_scan_that_is_scored(shared_data: Path) -> None:
    cubes = cubes_of_folds(shared_data / "lidc" / "cubes", CUBES, TRAIN)
    assert not [path for path, patients in cubes if "LIDC-IDRI-0001" in patients]


def test_every_cube_in_the_table_is_on_disk(shared_data: Path) -> None:
    cubes = cubes_of_folds(shared_data / "lidc" / "cubes", CUBES, range(10))
    assert len(cubes) == 113
    assert all(path.is_file() for path, _ in cubes)


def test_a_cube_of_several_patients_needs_all_of_them(table: Callable[[str], Path]) -> None:
    path = table(f"{HEADER}a,LIDC-IDRI-0001,LIDC-IDRI-0003\n")
    folds = {fold_of(f"LIDC-IDRI-{n:04d}") for n in (1, 2, 3)}
    assert [p.name for p, _ in cubes_of_folds(Path("cubes"), path, folds)] == ["a.nii.gz"]
    assert all(not cubes_of_folds(Path("cubes"), path, folds - {fold}) for fold in folds)


def test_cubes_without_a_table_are_refused() -> None:
    with pytest.raises(LunaError, match=r"cubes: whose cubes\? wanted data.cube_patients"):
        cubes_of_folds(Path("cubes"), None, TRAIN)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"cubes.csv: No such file"):
        cubes_of_folds(tmp_path, tmp_path / "cubes.csv", TRAIN)


def test_a_missing_column_is_named(table: Callable[[str], Path]) -> None:
    with pytest.raises(LunaError, match=r"cubes.csv: no column 'first_patient'; found \['cube', 'patient'\]"):
        cubes_of_folds(Path("cubes"), table("cube,patient\na,LIDC-IDRI-0001\n"), TRAIN)


@pytest.mark.parametrize(
    "cells", ["LIDC-IDRI-0004,LIDC-IDRI-0001", "LIDC-IDRI-0001,", "LIDC-IDRI-0001", "unknown,LIDC-IDRI-0001"]
)
def test_patients_that_are_none_name_the_line(table: Callable[[str], Path], cells: str) -> None:
    path = table(f"{HEADER}a,{cells}\n")
    with pytest.raises(LunaError, match=r"cubes.csv, line 2: patients .* wanted e.g. LIDC-IDRI-0001"):
        cubes_of_folds(Path("cubes"), path, TRAIN)
