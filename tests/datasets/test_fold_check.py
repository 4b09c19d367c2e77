"""Folds that are named and folds that there are, with scans and nodules of known folds."""

from pathlib import Path

import pytest

from p2ch_luna.datasets.collection import Known
from p2ch_luna.datasets.fold_check import FoldCounts, check_folds, count_in
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.datasets.splits import Folds, fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.io.candidate_table import join_tables
from p2ch_luna.io.lidc import LidcNodule
from p2ch_luna.io.lidc_tables import tables_of

BY_ID = {0: "1.2.840.8", 6: "1.2.840.9"}  # an id whose fold is this
HOST = ScanSource("host", Path("host.mha"))


def known(scans: list[ScanSource], patients: list[str], hosts: list[ScanSource]) -> Known:
    """These annotated scans, a LIDC nodule of each of these patients, and these hosts."""
    crops = [LidcNodule(p, p, "1.2.3", (0.0, 0.0, 0.0), 9.0, None, Path(f"{p}.nii.gz")) for p in patients]
    folds = Folds.by_subset((scan.series_uid, scan.subset) for scan in scans)
    return Known(scans, hosts, [], {}, {}, join_tables([]), tables_of([], []), crops, folds)


def subset(number: int) -> ScanSource:
    return ScanSource(f"1.{number}", Path(f"subset{number}/1.{number}.mhd"), None, number)


@pytest.fixture
def luna16() -> Known:
    """Subsets 0 and 1 of LUNA16."""
    return known([subset(0), subset(1)], [], [])


@pytest.fixture
def by_id() -> Known:
    """A host, and LIDC nodules of patients in folds 0 and 6."""
    assert {fold: fold_of(uid) for fold, uid in BY_ID.items()} == {0: 0, 6: 6}
    return known([], list(BY_ID.values()), [HOST])


def test_folds_with_scans_pass(luna16: Known) -> None:
    check_folds(luna16, [0, 1], "data.train_folds")


def test_a_fold_without_a_scan_is_told_with_those_that_have_some(luna16: Known) -> None:
    with pytest.raises(LunaError) as told:
        check_folds(luna16, [0, 5, 3], "data.train_folds")
    assert str(told.value) == "data.train_folds: fold 3 has no scan; folds with scans: 0, 1"


def test_a_scan_that_is_not_of_luna16_is_in_the_fold_of_its_id() -> None:
    own = known([ScanSource(BY_ID[6], Path("own.mha"))], [], [])
    check_folds(own, [6], "data.train_folds")
    with pytest.raises(LunaError, match=r"fold 0 has no scan; folds with scans: 6$"):
        check_folds(own, [0], "data.train_folds")


def test_beside_hosts_the_folds_are_of_nodules(by_id: Known) -> None:
    check_folds(by_id, [0, 6], "data.train_folds")
    with pytest.raises(LunaError) as told:
        check_folds(by_id, [1], "data.validation_folds")
    assert str(told.value) == (
        "data.validation_folds: fold 1 has no LIDC nodule; folds with LIDC nodules: 0, 6"
    )


def test_a_fold_of_nodules_alone_passes_beside_own_scans_of_another() -> None:
    check_folds(known([ScanSource(BY_ID[6], Path("own.mha"))], [BY_ID[0]], [HOST]), [0], "data.train_folds")


def test_a_nodule_whose_subset_is_not_there_is_of_no_fold() -> None:
    with pytest.raises(LunaError, match=r"fold 6 has no scan; folds with scans: 1$"):
        check_folds(known([subset(1)], [BY_ID[6]], []), [6], "data.train_folds")


def test_with_hosts_alone_any_fold_passes() -> None:
    check_folds(known([], [], [HOST]), [0, 9], "data.train_folds")


def test_scans_are_counted_by_their_subset(luna16: Known) -> None:
    assert count_in(luna16, [1, 2]) == FoldCounts(scans=1, crops=0)


def test_nodules_are_counted_by_their_patient(by_id: Known) -> None:
    assert count_in(by_id, [6, 7]) == FoldCounts(scans=0, crops=1)
