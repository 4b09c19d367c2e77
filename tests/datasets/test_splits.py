from pathlib import Path

import pytest

from p2ch_luna.datasets.splits import N_FOLDS, Folds, check_no_leak, fold_of, in_folds, parse_folds
from p2ch_luna.errors import LunaError
from p2ch_luna.io.lidc import read_lidc_nodules


def test_a_fold_depends_on_the_id_alone_and_never_changes() -> None:
    # first 8 bytes of SHA-256 of the id, modulo 10: `printf LIDC-IDRI-0001 | sha256sum`
    assert [fold_of(f"LIDC-IDRI-{n:04d}") for n in (1, 3, 5)] == [6, 7, 1]


def test_folds_share_no_patient_and_leave_none_out(shared_data: Path) -> None:
    nodules = read_lidc_nodules(shared_data / "lidc")
    patients = [{n.patient_id for n in in_folds(nodules, [fold])} for fold in range(N_FOLDS)]
    assert sum(len(p) for p in patients) == len(set().union(*patients)) == 455


def test_folds_are_of_similar_size(shared_data: Path) -> None:
    nodules = read_lidc_nodules(shared_data / "lidc")
    sizes = [len({n.patient_id for n in in_folds(nodules, [fold])}) for fold in range(N_FOLDS)]
    assert min(sizes) > 25
    assert max(sizes) < 70


@pytest.mark.parametrize(("text", "folds"), [("7-9", [7, 8, 9]), ("3", [3]), ("5,0,1-2", [0, 1, 2, 5])])
def test_folds_from_text(text: str, folds: list[int]) -> None:
    assert parse_folds(text) == folds


@pytest.mark.parametrize("text", ["", "a", "9-12", "-1", "3-"])
def test_folds_that_are_not_are_refused(text: str) -> None:
    with pytest.raises(LunaError, match="wanted"):
        parse_folds(text)


def test_a_scan_of_luna16_is_in_the_fold_of_its_subset() -> None:
    folds = Folds.by_subset([("LIDC-IDRI-0001", 4), ("other", None)])
    assert folds.of("LIDC-IDRI-0001") == {4}


def test_the_fold_does_not_depend_on_the_other_subsets() -> None:
    some, all_of_them = (Folds.by_subset([("a", 4), *more]) for more in ([], [("b", 0), ("c", 9)]))
    assert some.of("a") == all_of_them.of("a") == {4}


def test_beside_luna16_a_patient_whose_subset_is_not_there_has_no_fold() -> None:
    folds = Folds.by_subset([("a", 4)])
    assert folds.of("b") == frozenset()
    assert not folds.are_within("b", range(10))


def test_without_luna16_the_id_decides() -> None:
    assert Folds.by_subset([("a", None)]).of("LIDC-IDRI-0001") == {6}


def test_a_patient_of_two_subsets_needs_both() -> None:
    # LIDC-IDRI-0332 has scans in subsets 2 and 6
    folds = Folds.by_subset([("LIDC-IDRI-0332", 2), ("LIDC-IDRI-0332", 6)])
    assert folds.are_within("LIDC-IDRI-0332", [2, 5, 6])
    assert not folds.are_within("LIDC-IDRI-0332", [2, 5])


def test_a_patient_on_both_sides_is_a_leak() -> None:
    with pytest.raises(LunaError, match=r"1 patients train and validate: b; wanted each on one side"):
        check_no_leak(["a", "b"], ["b", "c"])


def test_sides_that_share_nobody_pass() -> None:
    check_no_leak(["a", "b"], ["c"])
