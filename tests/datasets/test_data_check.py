"""What a side of a split has to draw samples from, of tables alone."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2ch_luna.datasets.collection import Known, Sources
from p2ch_luna.datasets.data_check import check_paths, count_samples, drawn_from
from p2ch_luna.datasets.sources import ScanSource
from p2ch_luna.datasets.splits import Folds
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io.candidate_table import CandidateTable
from p2ch_luna.io.lidc import LidcNodule
from p2ch_luna.io.lidc_tables import tables_of

NOTHING = Sources(
    luna16=None, scans=[], annotations=None, excluded=None, candidates=[], hosts=[], validation_hosts=[],
    lidc=None, cubes=None, cube_patients=None,
)  # fmt: skip
UIDS = ("1.0", "1.1", "host")  # of subset 0, of subset 1, a host of training
PLACES = ("1.0", "1.0", "1.1", "host", "elsewhere")  # of candidates, of which the first is a nodule


@pytest.fixture
def known() -> Known:
    """Two annotated scans, of folds 0 and 1, with 2 nodules and 1; a host with 1."""
    scans = [ScanSource(uid, Path(f"{uid}.mhd"), None, fold) for fold, uid in enumerate(UIDS[:2])]
    nodules = {uid: [Nodule(uid, (0.0, 0.0, 0.0), 9.0)] * n for uid, n in zip(UIDS, (2, 1, 1), strict=True)}
    uids = tuple(dict.fromkeys(PLACES))
    table = CandidateTable(
        uids,
        np.array([uids.index(uid) for uid in PLACES], np.int32),
        np.zeros((len(PLACES), 3)),
        np.arange(len(PLACES)) == 0,
    )
    folds = Folds.by_subset((scan.series_uid, scan.subset) for scan in scans)
    host = ScanSource("host", Path("host.mha"))
    return Known(scans, [host], [], nodules, {}, table, tables_of([], []), [], folds)


def test_a_training_side_has_its_scans_and_the_hosts(known: Known) -> None:
    assert count_samples(known, NOTHING, [0], trains=True) == {
        "nodules": 3,
        "found_nodules": 1,
        "candidates": 2,
        "lung": 2,
        "implants": 2,  # cut out of annotated scans alone
        "cubes": 0,
        "vessels": 0,
    }


def test_a_validation_side_has_other_hosts(known: Known) -> None:
    found = count_samples(known, NOTHING, [1], trains=False)
    assert (found["nodules"], found["candidates"], found["lung"]) == (1, 1, 1)


def test_lidcs_nodules_are_implanted_rather_than_the_scans_own(known: Known) -> None:
    crop = LidcNodule("a", "1.0", "1.0", (0.0, 0.0, 0.0), 9.0, None, Path("a.nii.gz"))
    assert count_samples(replace(known, crops=[crop]), NOTHING, [0], trains=True)["implants"] == 1


def test_without_a_scan_nothing_is_implanted(known: Known) -> None:
    crop = LidcNodule("a", "1.0", "1.0", (0.0, 0.0, 0.0), 9.0, None, Path("a.nii.gz"))
    alone = replace(known, scans=[], hosts=[], crops=[crop])
    assert count_samples(alone, NOTHING, [0], trains=True)["implants"] == 0


def test_cubes_are_those_of_the_side(known: Known, tmp_path: Path) -> None:
    table = tmp_path / "cubes.csv"
    table.write_text("cube,first_patient,last_patient\n1,LIDC-IDRI-0001,LIDC-IDRI-0001\n", encoding="utf-8")
    folds = Folds({"LIDC-IDRI-0001": frozenset({0})})
    sources = replace(NOTHING, cubes=tmp_path, cube_patients=table)
    own, other = (count_samples(replace(known, folds=folds), sources, [fold], trains=True) for fold in (0, 1))
    assert (own["cubes"], own["vessels"], other["cubes"]) == (1, 1, 0)


def test_samples_are_drawn_from_what_has_a_share_and_items() -> None:
    sampling = {"nodules": 0.5, "lung": 0.5, "cubes": 0.0}
    assert drawn_from(sampling, {"nodules": 1, "lung": 2, "cubes": 3}, trains=True) == ["lung", "nodules"]


def test_training_does_not_do_without_a_source() -> None:
    with pytest.raises(LunaError) as told:
        drawn_from({"nodules": 0.5, "cubes": 0.25}, {"nodules": 1, "cubes": 0}, trains=True)
    assert str(told.value) == (
        "train: sampling.cubes = 0.25, but the data have no such sample in these folds; "
        "wanted data that have, or a share of 0"
    )


def test_validation_does_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert drawn_from({"nodules": 0.5, "cubes": 0.25}, {"nodules": 1, "cubes": 0}, trains=False) == [
            "nodules"
        ]
    assert "validation: sampling.cubes = 0.25, but the data have no such sample" in caplog.text


def test_no_side_does_without_nodules() -> None:
    with pytest.raises(
        LunaError, match=r"^validation: no sample holds a nodule: .* wanted one of nodules as"
    ):
        drawn_from({"nodules": 0.0, "lung": 1.0}, {"nodules": 1, "lung": 1}, trains=False)


def test_paths_that_are_there_pass(tmp_path: Path) -> None:
    check_paths(replace(NOTHING, scans=[tmp_path], lidc=tmp_path))


def test_a_path_that_is_not_there_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"^data\.hosts: .*gone\.mha: no such file or folder$"):
        check_paths(replace(NOTHING, hosts=[tmp_path, tmp_path / "gone.mha"]))


def test_of_candidates_it_is_told_who_writes_them() -> None:
    with pytest.raises(LunaError, match=r"^data\.candidates: gone\.csv: no such .*; `luna mine` writes it$"):
        check_paths(replace(NOTHING, candidates=[Path("gone.csv")]))


def test_a_table_in_a_zip_is_there_if_the_zip_is(tmp_path: Path) -> None:
    (tmp_path / "lists.zip").touch()
    check_paths(replace(NOTHING, annotations=tmp_path / "lists.zip" / "annotations.csv"))
