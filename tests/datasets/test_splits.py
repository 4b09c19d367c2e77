from pathlib import Path

import pytest

from p2ch_luna.datasets.splits import N_FOLDS, fold_of, in_folds, parse_folds
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
