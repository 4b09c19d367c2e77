"""Folds pooled into one submission, with marks and nodules whose score is worked out by hand."""

import json
from pathlib import Path

import pytest

from p2ch_luna.datasets.collection import Known
from p2ch_luna.datasets.splits import Folds
from p2ch_luna.errors import LunaError
from p2ch_luna.findings import Nodule
from p2ch_luna.io import ScoredPoint, read_detections, read_nodules, read_series_uids
from p2ch_luna.io.candidate_table import join_tables
from p2ch_luna.io.lidc_tables import tables_of
from p2ch_luna.report.crossval import FoldRecord, FoldResult, pool, read_record, write_record

HERE, THERE = (0.0, 0.0, 0.0), (50.0, 0.0, 0.0)


@pytest.fixture
def known() -> Known:
    """Scans a and b have a nodule each, c has none; a has an excluded finding too, z is of no fold."""
    nodules = {uid: [Nodule(uid, HERE, 10.0)] for uid in ("a", "b", "z")}
    unsure = {"a": [Nodule("a", THERE, 10.0)], "z": [Nodule("z", THERE, 10.0)]}
    return Known([], [], [], nodules, unsure, join_tables([]), tables_of([], []), [], Folds())


def result(fold: int, scans: tuple[str, ...], *marks: ScoredPoint) -> FoldResult:
    record = FoldRecord(fold=fold, folds=(1, 4, 8), scans=scans, left_out=(), weights={"segmentation": "x"})
    return FoldResult(record, marks)


@pytest.fixture
def results() -> list[FoldResult]:
    """The nodule of a is found below a false positive, that of b is missed; c has a false positive.

    Down to 0.9: no nodule of 2, 1 false positive in 3 scans. Down to 0.8: 1 nodule. Down to 0.1: 2 false.
    """
    of_a = [
        ScoredPoint("a", (0.0, 20.0, 0.0), 0.9),
        ScoredPoint("a", HERE, 0.8),
        ScoredPoint("a", THERE, 1.0),
    ]
    return [result(1, ("a",), *of_a), result(8, ("b", "c"), ScoredPoint("c", HERE, 0.1))]


def test_all_folds_are_one_submission(known: Known, results: list[FoldResult], tmp_path: Path) -> None:
    report = pool(tmp_path, known, (1, 4, 8), results, {}, 0)
    # At 1/8 and 1/4 false positives a scan nothing is found, from 1/3 on one of two nodules.
    assert report.evaluation.cpm == pytest.approx(5 * 0.5 / 7)
    assert (report.evaluation.scans, report.evaluation.nodules, report.evaluation.found) == (3, 2, 1)
    assert report.evaluation.false_positives == 2


def test_a_fold_is_scored_by_its_own_scans(known: Known, results: list[FoldResult], tmp_path: Path) -> None:
    first, second = pool(tmp_path, known, (1, 4, 8), results, {}, 0).per_fold
    # Of the one nodule in one scan: found from 1 false positive on, so at 4 of 7 rates.
    assert (first.fold, first.scans, first.nodules) == (1, 1, 1)
    assert first.cpm == pytest.approx(4 / 7)
    assert (second.fold, second.scans, second.nodules, second.cpm) == (8, 2, 1, 0.0)


def test_a_fold_without_a_nodule_has_no_score(known: Known, tmp_path: Path) -> None:
    report = pool(tmp_path, known, (1, 4), [result(1, ("a",)), result(4, ("c",))], {}, 0)
    assert [fold.cpm for fold in report.per_fold] == [0.0, None]


def test_folds_that_are_not_done_are_named(known: Known, results: list[FoldResult], tmp_path: Path) -> None:
    assert pool(tmp_path, known, (1, 4, 8), results, {}, 0).missing_folds == (4,)


def test_the_files_are_those_of_the_held_out_scans(
    known: Known, results: list[FoldResult], tmp_path: Path
) -> None:
    report = pool(tmp_path, known, (1, 4, 8), results, {}, 0)
    assert read_series_uids(tmp_path / "seriesuids.csv") == ["a", "b", "c"]
    assert [n.series_uid for n in read_nodules(tmp_path / "annotations.csv")] == ["a", "b"]
    assert [n.series_uid for n in read_nodules(tmp_path / "annotations_excluded.csv")] == ["a"]
    assert read_detections(tmp_path / "detections.csv") == [m for r in results for m in r.marks]
    assert json.loads((tmp_path / "crossval.json").read_text("utf-8")) == json.loads(report.to_json())
    assert len(list(tmp_path.iterdir())) == 5


def test_a_scan_that_is_held_out_twice_is_refused(known: Known, tmp_path: Path) -> None:
    with pytest.raises(LunaError, match=r"^a: held out in folds 1 and 8; wanted each scan once"):
        pool(tmp_path, known, (1, 8), [result(1, ("a",)), result(8, ("b", "a"))], {}, 0)
    assert list(tmp_path.iterdir()) == []


def test_without_a_nodule_nothing_is_written(known: Known, tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="no nodule"):
        pool(tmp_path, known, (1, 8), [result(1, ("c",))], {}, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = result(1, ("a", "b")).record
    write_record(tmp_path / "fold.json", record)
    assert read_record(tmp_path / "fold.json") == record


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "fold.json") is None


@pytest.mark.parametrize("text", ["{", '{"fold": 1}', "[]"])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "fold.json").write_text(text, encoding="utf-8")
    with pytest.raises(LunaError, match=r"fold\.json: damaged; wanted what `luna crossval` writes"):
        read_record(tmp_path / "fold.json")
