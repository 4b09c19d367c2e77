"""A watch of a server: each new chest once, whatever goes wrong."""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.detector import Silent
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb import watch
from p2ch_luna.serve.dicomweb.client import DeniedError, Server, UnreachableError
from p2ch_luna.serve.dicomweb.study import Diagnose
from p2ch_luna.serve.dicomweb.watch import Watch, watching
from support.diagnosed import FixedDetector
from support.dicomweb import FakeDicomweb

Scan = Callable[..., list[Path]]
NewWatch = Callable[..., Watch]
DONE = "study 1.2.3: 1 finding, SEG and SR stored"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def new_watch(server: Server, tmp_path: Path, diagnose: Diagnose, told: list[str]) -> Iterator[NewWatch]:
    """Makes a watch on the same folder each time; an hour passes from one glance at the clock to the next."""
    hours = itertools.count(0, 3600)

    def new(diagnose: Diagnose = diagnose, **options: object) -> Watch:
        given = {"sleep": lambda _: None, "clock": lambda: next(hours), **options}
        return Watch(server, tmp_path / "dir", diagnose, told.append, Silent(), **given)  # type: ignore[arg-type]

    with watching(tmp_path / "dir"):
        yield new


def kinds(fake: FakeDicomweb) -> list[str]:
    """Modalities of what is there beside CT."""
    return sorted(str(dataset.Modality) for kind in ("SEG", "SR") for dataset in fake.of(kind))


def never(_scan: Path, _results: Path) -> Report:
    raise AssertionError("it was diagnosed")


def test_what_was_there_before_is_left(fake: FakeDicomweb, new_watch: NewWatch, scan: Scan) -> None:
    fake.send(*scan())
    new_watch(never).run(once=True)
    assert kinds(fake) == []


def test_what_was_there_before_is_taken_if_asked_for_even_later(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan
) -> None:
    fake.send(*scan())
    new_watch(never).run(once=True)
    new_watch(existing=True).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]


def test_a_new_study_is_done_once(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str], detector: FixedDetector
) -> None:
    watch = new_watch()
    watch.look()
    fake.send(*scan())
    for _ in range(4):
        watch.look()
    new_watch(never).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]
    assert detector.calls == 1
    assert told[1:] == [DONE]


def test_the_findings_belong_to_the_study_and_refer_to_its_series(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan
) -> None:
    fake.send(*scan())
    new_watch(existing=True).run(once=True)
    (seg,), (sr,) = fake.of("SEG"), fake.of("SR")
    assert {seg.StudyInstanceUID, sr.StudyInstanceUID} == {"1.2.3"}
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.1"
    assert len(seg.SegmentSequence) == 1


def test_a_study_that_still_arrives_is_waited_for(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    watch, files = new_watch(), scan()
    watch.look()
    for k in range(0, 20, 5):
        fake.send(*files[: k + 5])
        assert watch.look()
        assert len(told) == 1
    assert not watch.look()
    assert told[1:] == [DONE]


def test_images_that_come_after_the_diagnosis_change_nothing(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    new_watch(existing=True).run(once=True)
    late = pydicom.dcmread(scan("1.2.4")[0])
    late.StudyInstanceUID = "1.2.3"
    late.save_as(tmp_path / "late.dcm")
    fake.send(tmp_path / "late.dcm")
    new_watch(never).run(once=True)


def test_another_part_of_the_body_is_left(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan(BodyPartExamined="HEAD"))
    new_watch(never, existing=True).run(once=True)
    assert told[1:] == ["study 1.2.3: left: no chest: HEAD"]


def test_nothing_is_stored_where_no_lungs_were_found(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, diagnose: Diagnose, told: list[str]
) -> None:
    def no_lungs(scan: Path, results: Path) -> Report:
        return diagnose(scan, results).model_copy(update={"is_searched": False})

    fake.send(*scan())
    new_watch(no_lungs, existing=True).run(once=True)
    assert told[1:] == ["study 1.2.3: left: no lungs were found, so nothing was searched"]
    assert kinds(fake) == []


def test_without_its_record_it_asks_the_server(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path, told: list[str]
) -> None:
    fake.send(*scan())
    new_watch(existing=True).run(once=True)
    (tmp_path / "dir" / watch.RECORD).unlink()
    new_watch(never, existing=True).run(once=True)
    assert told[-1] == "study 1.2.3: its findings are there already"


def test_a_server_that_dies_in_mid_fetch_is_asked_again(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path, told: list[str]
) -> None:
    files = scan()
    fake.send(*files)
    half = pydicom.dcmread(files[10]).SOPInstanceUID
    fake.fault = lambda _method, path: "cut" if path.endswith(half) else None
    watch = new_watch(existing=True)
    watch.look()
    with pytest.raises(UnreachableError, match=r"study 1\.2\.3"):
        watch.look()
    assert list((tmp_path / "dir" / "tmp").iterdir()) == []
    fake.fault = lambda _method, _path: None
    assert not watch.look()
    assert told[1:] == [DONE]


@pytest.mark.parametrize("fault", ["cut", 503])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_server_that_dies_in_mid_store_gets_each_once(
    fault: str | int, nth: int, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, detector: FixedDetector
) -> None:
    stores = itertools.count(1)
    fake.fault = lambda method, _path: fault if method == "POST" and next(stores) == nth else None
    fake.send(*scan())
    watch = new_watch(existing=True)
    watch.look()
    with pytest.raises(UnreachableError):
        watch.look()
    assert not watch.look()
    assert kinds(fake) == ["SEG", "SR"]
    assert detector.calls == 1


def test_the_next_process_stores_what_is_diagnosed_under_the_same_uids(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path
) -> None:
    fake.fault = lambda method, _path: 503 if method == "POST" else None
    fake.send(*scan())
    with pytest.raises(UnreachableError):
        new_watch(existing=True).run(once=True)
    fake.fault = lambda _method, _path: None
    new_watch(never).run(once=True)
    results = tmp_path / "dir" / "results" / "1.2.3"
    assert {header.SOPInstanceUID for kind in ("SEG", "SR") for header in fake.of(kind)} == {
        pydicom.dcmread(results / name).SOPInstanceUID for name in ("nodules.seg.dcm", "nodules.sr.dcm")
    }


def test_a_scan_that_cannot_be_read_is_failed_and_the_others_go_on(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan("1.2.2")[:3], *scan("1.2.3"))
    new_watch(existing=True).run(once=True)
    assert told[1].startswith("study 1.2.2: failed: ")
    assert told[2:] == [DONE]
    new_watch(never).run(once=True)


def test_wrong_credentials_end_the_watch_and_fail_no_study(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    fake.fault = lambda _method, path: 401 if "/instances/" in path else None
    with pytest.raises(DeniedError):
        new_watch(existing=True).run()
    fake.fault = lambda _method, _path: None
    new_watch(existing=True).run(once=True)
    assert told[1:] == [DONE]


def test_a_full_disk_ends_the_watch_and_fails_no_study(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan
) -> None:
    def full(_scan: Path, _results: Path) -> Report:
        raise LunaError("out: cannot be written") from OSError(errno.ENOSPC, "no room")

    fake.send(*scan())
    with pytest.raises(LunaError, match="cannot be written"):
        new_watch(full, existing=True).run()
    new_watch(existing=True).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]


def test_a_study_that_ends_the_process_is_tried_twice(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    watch = new_watch(never, existing=True)
    watch.look()
    for _ in range(2):
        watch.record.attempt("1.2.3")
    watch.run(once=True)
    assert told[-1] == "study 1.2.3: failed: its diagnosis ended the process 2 times"


def test_to_be_stopped_costs_a_study_no_attempt(fake: FakeDicomweb, new_watch: NewWatch, scan: Scan) -> None:
    def stopped(_scan: Path, _results: Path) -> Report:
        raise KeyboardInterrupt

    fake.send(*scan())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            new_watch(stopped, existing=True).run()
    new_watch(existing=True).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]


def test_pauses_grow_while_the_server_is_away(
    fake: FakeDicomweb, new_watch: NewWatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 7:
            fake.fault = lambda _method, _path: None
        if len(pauses) == 9:
            raise KeyboardInterrupt

    fake.fault = lambda _method, _path: 503
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.WARNING):
        new_watch(sleep=sleep).run()
    assert pauses == [60, 120, 240, 480, 600, 600, 600, 30, 30]
    assert "another look in 60 s" in caplog.text


def test_a_second_watch_on_a_folder_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(LunaError, match="another watch works in it")
    with watching(tmp_path / "dir"), refused, watching(tmp_path / "dir"):
        pytest.fail("it is held")


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    with watching(tmp_path / "dir"):
        assert (tmp_path / "dir").stat().st_mode & 0o077 == 0


def test_what_is_told_and_logged_names_no_patient(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fake.send(*scan("1.2.2")[:3], *scan("1.2.3", PatientID="4711"))
    with caplog.at_level(logging.DEBUG):
        new_watch(existing=True).run(once=True)
    assert "1.2.3" in " ".join(told)
    assert not any(word in " ".join(told) + caplog.text for word in ("Yamada", "4711"))
