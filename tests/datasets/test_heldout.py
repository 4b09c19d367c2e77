"""Whose scans are held out in a fold's turn, and who trains then."""

from pathlib import Path
from typing import Any

import pytest

from p2ch_luna.datasets.collection import Known
from p2ch_luna.datasets.heldout import check_folds_apart, held_out, in_several, train_folds, trainers
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.datasets.splits import Folds, fold_of
from p2ch_luna.errors import LunaError
from p2ch_luna.io.candidate_table import join_tables
from p2ch_luna.io.lidc import LidcNodule
from p2ch_luna.io.lidc_tables import LidcScan, tables_of

PATIENT = "patient-1"  # of both "1.2" and "1.6"


def scan(uid: str, subset: int | None = None) -> ScanSource:
    return ScanSource(uid, Path(f"{uid}.mhd"), None, subset)


def known(*scans: ScanSource, hosts: tuple[ScanSource, ...] = (), crops_of: tuple[str, ...] = ()) -> Known:
    """Annotated scans, backgrounds and LIDC nodules of these patients; any other scan is a patient itself."""
    tables = tables_of(
        [LidcScan(k, uid, PATIENT, None, None, None) for k, uid in enumerate(("1.2", "1.6"))], []
    )
    folds = Folds.by_subset((tables.patient_of(s.series_uid) or s.series_uid, s.subset) for s in scans)
    crops = [LidcNodule(p, p, "1.9", (0.0, 0.0, 0.0), 9.0, None, Path(f"{p}.nii.gz")) for p in crops_of]
    return Known(list(scans), list(hosts), [], {}, {}, join_tables([]), tables, crops, folds)


@pytest.fixture
def in_two_subsets() -> Known:
    """As LIDC-IDRI-0332 in LUNA16: a patient with a scan in subset 2 and one in subset 6, between others."""
    return known(scan("1.2", 2), scan("1.6", 6), scan("2.2", 2), scan("2.6", 6), scan("2.7", 7))


def uids(scans: list[ScanSource]) -> list[str]:
    return [one.series_uid for one in scans]


def test_all_folds_but_the_one_that_is_held_out_train() -> None:
    assert train_folds([0, 3, 5], 3) == [0, 5]


def test_each_scan_is_held_out_in_exactly_one_fold(in_two_subsets: Known) -> None:
    found = [uid for fold in (2, 6, 7) for uid in uids(held_out(in_two_subsets, fold))]
    assert sorted(found) == ["1.2", "1.6", "2.2", "2.6", "2.7"]


def test_a_patient_in_two_subsets_trains_in_the_turn_of_neither(in_two_subsets: Known) -> None:
    assert uids(trainers(in_two_subsets, [2, 6, 7], 2)) == ["2.6", "2.7"]
    assert uids(trainers(in_two_subsets, [2, 6, 7], 6)) == ["2.2", "2.7"]
    assert uids(trainers(in_two_subsets, [2, 6, 7], 7)) == ["1.2", "1.6", "2.2", "2.6"]


def test_so_the_folds_of_luna16_are_apart_and_the_patient_is_named(in_two_subsets: Known) -> None:
    check_folds_apart(in_two_subsets, [2, 6, 7])
    assert in_several(in_two_subsets, [2, 6, 7]) == [PATIENT]
    assert in_several(in_two_subsets, [2, 7]) == []


def test_a_scan_beside_luna16_of_a_patient_of_luna16_is_a_leak() -> None:
    """Its fold is that of the patient's id: while that is held out, the patient's subset trains."""
    own = fold_of(PATIENT)
    other = (own + 1) % 10
    leaky = known(scan("1.2", other), scan("1.6"), scan("2.6", (own + 2) % 10))
    with pytest.raises(
        LunaError, match=f"^--folds: while fold {own} is held out 1 patients .*{PATIENT}; wanted"
    ):
        check_folds_apart(leaky, [other, own])


def test_a_background_of_a_held_out_patient_is_told_as_a_leak() -> None:
    leaky = known(scan("1.2", 2), scan("2.7", 7), hosts=(scan("1.6"),))
    with pytest.raises(LunaError, match=r"while fold 2 is held out .*patient-1"):
        check_folds_apart(leaky, [2, 7])


def test_nodules_of_a_held_out_patient_are_no_leak_but_a_background_of_hers_is() -> None:
    def is_leaky(**more: tuple[Any, ...]) -> bool:
        try:
            check_folds_apart(known(scan("1.2", 2), scan("2.7", 7), **more), [2, 7])
        except LunaError:
            return True
        return False

    assert not is_leaky(crops_of=(PATIENT, "2.7"))  # they are left out of the training of that fold
    assert is_leaky(crops_of=(PATIENT, "2.7"), hosts=(scan("1.6"),))


def test_a_fold_without_a_scan_is_told_with_those_that_have_some(in_two_subsets: Known) -> None:
    with pytest.raises(
        LunaError, match=r"^--folds: fold 3 has no annotated scan; folds with scans: 2, 6, 7; wanted"
    ):
        check_folds_apart(in_two_subsets, [2, 3])


def test_nodules_alone_are_nothing_to_be_judged_by() -> None:
    with pytest.raises(LunaError, match=r"has no annotated scan; folds with scans: none; wanted data.luna16"):
        check_folds_apart(known(crops_of=("2.7",)), [fold_of("2.7"), 0])


@pytest.mark.parametrize("folds", [[2], [2, 2]])
def test_one_fold_is_no_cross_validation(in_two_subsets: Known, folds: list[int]) -> None:
    with pytest.raises(LunaError, match="alone; wanted two folds or more"):
        check_folds_apart(in_two_subsets, folds)
