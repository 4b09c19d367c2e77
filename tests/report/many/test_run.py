"""Many scans: what is done again and what is not, the tables, and what is told. Nothing runs in a process."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.io import read_detections, read_series_uids
from p2ch_luna.io.find_scans import FoundScan
from p2ch_luna.report.many import run as many
from p2ch_luna.report.many.run import diagnose_many
from p2ch_luna.report.many.summary import Row, row_of
from p2ch_luna.report.many.work import Job, Task, Worker

from .conftest import MakeScans
from .fake_jobs import FakeJob, report


def in_line(
    tasks: Sequence[Task], job: Job, _workers: int | None = None, _threads: int | None = None
) -> Generator[Row]:
    """An engine without processes."""
    worker = Worker(job, threads=1)
    for task in tasks:
        answer = worker.attempt(task)
        if isinstance(answer, LunaError):
            raise answer
        yield answer


@pytest.fixture(autouse=True)
def _without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(many.ENGINES, "plain", in_line)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def n_before(scans: list[FoundScan], out: Path, job: FakeJob) -> int:
    """How many a further run does not do again."""
    return diagnose_many(scans, out, job).n_before


def test_a_good_scan_has_a_row_of_its_findings(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    (row,) = table(tmp_path / "out" / "summary.csv")
    assert 0 <= float(row.pop("seconds")) < 60  # a fake diagnosis may take less than the last digit
    assert row == {
        "name": "a",
        "scan": str(scans[0].path),
        "series_uid": "a",
        "findings": "2",
        "largest_mean_diameter_mm": "8.5",
        "highest_probability": "0.9",
        "highest_suspicion": "0.7",
        "warnings": "1",
        "error": "",
    }


def test_a_scan_without_findings_has_empty_cells() -> None:
    row = row_of(FoundScan("a", Path("a.mha")), report("1.2"), seconds=1.0)
    of_findings = (row.largest_mean_diameter_mm, row.highest_probability, row.highest_suspicion)
    assert (row.findings, *of_findings) == (0, None, None, None)


def test_a_scan_that_was_not_searched_is_not_counted_as_clean() -> None:
    nothing = report("1.2").model_copy(update={"is_searched": False})
    row = row_of(FoundScan("a", Path("a.mha")), nothing, seconds=1.0)
    assert row.findings is None
    assert row.text == "a: not searched, as no lungs were found, 1.0 s"


def test_a_bad_scan_stops_no_other(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good", b="bad", c="good")
    done = diagnose_many(scans, tmp_path / "out", job)
    assert [bool(row.error) for row in done.rows] == [False, True, False]
    assert done.n_failed == 1


def test_what_nobody_has_foreseen_is_recorded_with_its_type_and_place_alone(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    """Its text may quote a header."""
    done = diagnose_many(make_scans(a="bug"), tmp_path / "out", job)
    assert re.fullmatch(r"ZeroDivisionError \(fake_jobs\.py, line \d+\)", done.rows[0].error)


def test_what_the_system_refuses_is_told_in_its_words_without_the_path(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").touch()  # where the folder of results belongs
    error = diagnose_many(make_scans(a="good"), tmp_path / "out", job).rows[0].error
    assert re.match(r"NotADirectoryError: Not a directory \(", error)
    assert str(tmp_path) not in error


def test_a_scan_that_is_not_there_is_told(tmp_path: Path, job: FakeJob) -> None:
    path = tmp_path / "gone.mha"
    error = diagnose_many([FoundScan("gone", path)], tmp_path / "out", job).rows[0].error
    assert error == (
        f"{path}: cannot be read: No such file or directory; expected a disk that every worker sees"
    )


def test_results_of_a_scan_that_fails_now_are_removed(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    (tmp_path / "out" / "a" / "note").touch()
    scans[0].path.write_text("bad", encoding="utf-8")
    diagnose_many(scans, tmp_path / "out", job)
    left = {path.name for path in (tmp_path / "out" / "a").iterdir()}
    assert left == {"note", "worker"}  # which no report names


def test_workers_get_absolute_paths(
    make_scans: MakeScans, job: FakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a cluster run in a folder of their own."""
    given: list[Task] = []

    def engine(tasks: Sequence[Task], *_: object) -> Generator[Row]:
        given.extend(tasks)
        yield from ()

    monkeypatch.setitem(many.ENGINES, "plain", engine)
    (scan,) = make_scans(a="good")
    monkeypatch.chdir(scan.path.parent)
    diagnose_many([FoundScan("a", Path("a.mha"))], Path("out"), job)
    assert given == [Task(scan, scan.path.parent / "out" / "a")]


def test_workers_and_threads_reach_the_engine(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def engine(_tasks: Sequence[Task], _job: Job, *shares: int | None) -> Generator[Row]:
        given.extend(shares)
        yield from ()

    monkeypatch.setitem(many.ENGINES, "plain", engine)
    diagnose_many(make_scans(a="good"), tmp_path, job, workers=2, threads=3)
    assert given == [2, 3]


def test_failures_are_told_in_a_table(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good", bad_one="bad")
    lines = diagnose_many(scans, tmp_path / "out", job).text.splitlines()
    assert lines[0].startswith("2 scans: 1 diagnosed in ")
    assert lines[0].endswith(" s, 0 before, 1 failed; 2 findings")
    assert lines[1:4] == [
        "1 of 2 scans failed",
        "name     what is wrong",
        f"bad_one  {scans[1].path}: bad; expected good",
    ]


def test_detections_are_joined_for_an_evaluation(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    diagnose_many(make_scans(b="good", a="good", c="bad"), tmp_path / "out", job)
    assert [mark.series_uid for mark in read_detections(tmp_path / "out" / "detections.csv")] == ["a", "b"]
    assert read_series_uids(tmp_path / "out" / "seriesuids.csv") == ["a", "b"]


def test_scans_of_one_series_uid_are_joined_under_their_names(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    """As p1/ct.mha and p2/ct.mha are."""
    (first,), (second,) = make_scans(ct="good"), make_scans(ct="good")
    scans = [replace(first, name="p1_ct"), replace(second, name="p2_ct")]
    diagnose_many(scans, tmp_path / "out", job)
    assert read_series_uids(tmp_path / "out" / "seriesuids.csv") == ["p1_ct", "p2_ct"]


def test_what_is_done_is_not_done_again(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good", b="good")
    first = diagnose_many(scans[:1], tmp_path / "out", job)
    done = diagnose_many(scans, tmp_path / "out", job)
    assert done.n_before == 1
    assert done.rows[0] == first.rows[0]


def test_where_all_is_done_no_networks_are_loaded(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    diagnose_many(scans, tmp_path / "out", job)
    assert len(job.log.read_text(encoding="utf-8").splitlines()) == 1


def test_what_is_done_is_done_again_if_asked(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    assert diagnose_many(scans, tmp_path / "out", job, again=True).n_before == 0


def test_a_scan_that_failed_is_tried_again(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="bad")
    diagnose_many(scans, tmp_path / "out", job)
    assert n_before(scans, tmp_path / "out", job) == 0


def test_a_scan_that_has_changed_is_done_again(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    """Its size stays."""
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    scans[0].path.write_text("gooD", encoding="utf-8")
    os.utime(scans[0].path, ns=(0, 1))
    assert n_before(scans, tmp_path / "out", job) == 0


def test_other_settings_or_networks_do_all_again(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    assert n_before(scans, tmp_path / "out", replace(job, fingerprint="other")) == 0


@pytest.mark.parametrize("name", ["report.json", "detections.csv", "done.json"])
def test_results_that_are_not_whole_are_made_again(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob, name: str
) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    (tmp_path / "out" / "a" / name).unlink()
    assert n_before(scans, tmp_path / "out", job) == 0


def test_a_report_that_another_run_has_replaced_is_made_again(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    path = tmp_path / "out" / "a" / "report.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert n_before(scans, tmp_path / "out", job) == 0


def test_a_record_is_gone_before_other_results_come(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    """As where the second run, of other settings, is killed before it is done."""
    scans = make_scans(a="good")
    diagnose_many(scans, tmp_path / "out", job)
    scans[0].path.write_text("bug", encoding="utf-8")
    diagnose_many(scans, tmp_path / "out", replace(job, fingerprint="other"))
    assert not (tmp_path / "out" / "a" / "done.json").exists()


def test_each_scan_is_told_with_what_is_to_go(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    scans = make_scans(a="good", b="bad", c="good")
    diagnose_many(scans[2:], tmp_path / "out", job)
    lines: list[str] = []
    diagnose_many(scans, tmp_path / "out", job, hear=lambda _row, line: lines.append(line))
    assert lines[0].startswith("1/3 c: 2 findings, ")
    assert lines[0].endswith(" s, done before")
    assert lines[1].startswith("2/3 a: 2 findings, ")
    assert lines[1].endswith(" s; to go 0:00")
    assert lines[2] == f"3/3 b: failed: {scans[1].path}: bad; expected good; to go 0:00"


def test_the_summary_has_what_was_done_when_it_was_interrupted(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    def interrupt(row: Row, _line: str) -> None:
        if row.name == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        diagnose_many(make_scans(a="good", b="good", c="good"), tmp_path / "out", job, hear=interrupt)
    assert [row["name"] for row in table(tmp_path / "out" / "summary.csv")] == ["a", "b"]


def test_networks_that_cannot_be_loaded_end_all(make_scans: MakeScans, tmp_path: Path, job: FakeJob) -> None:
    with pytest.raises(LunaError, match="no weights"):
        diagnose_many(make_scans(a="good"), tmp_path / "out", replace(job, load_error="no weights"))


def test_an_output_that_cannot_be_written_is_told_before_the_work(
    make_scans: MakeScans, tmp_path: Path, job: FakeJob
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(LunaError, match="cannot be written"):
        diagnose_many(make_scans(a="good"), tmp_path / "out", job)
    assert not job.log.exists()


def test_no_scans_give_empty_tables(tmp_path: Path, job: FakeJob) -> None:
    assert diagnose_many([], tmp_path / "out", job).rows == ()
    assert table(tmp_path / "out" / "summary.csv") == []
