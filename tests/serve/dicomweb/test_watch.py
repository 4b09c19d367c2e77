"""A watch of a server: each new chest once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb import watch
from p2ch_luna.serve.dicomweb.failures import UnreachableError
from p2ch_luna.serve.dicomweb.study import Diagnose
from p2ch_luna.serve.dicomweb.watch import Watch, watching
from support.diagnosed import FixedDetector
from support.dicomweb import FakeDicomweb, kinds

Scan = Callable[..., list[Path]]
NewWatch = Callable[..., Watch]
DONE = "study 1.2.3: 1 finding, SEG and SR stored"


def never(_scan: Path, _results: Path) -> Report:
    raise AssertionError("it was diagnosed")


def test_what_was_there_before_is_left(fake: FakeDicomweb, new_watch: NewWatch, scan: Scan) -> None:
    fake.send(*scan())
    new_watch(never).run(once=True)
    assert kinds(fake) == []


def test_what_is_left_out_is_told_at_each_start(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    for _ in range(2):
        watch = new_watch(never)
        watch.look()
        watch.look()
    line = "studies with CT from before the first look: 1; left out, --existing takes them too"
    assert told == [f"{fake.url}: {line}"] * 2


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


def test_a_study_is_named_before_its_progress(fake: FakeDicomweb, new_watch: NewWatch, scan: Scan) -> None:
    fake.send(*scan())
    watch, stages = new_watch(existing=True), []
    watch.progress = SimpleNamespace(stage=lambda text, *_: stages.append(text), advance=lambda *_: None)
    watch.run(once=True)
    assert stages[:2] == ["study 1.2.3: begun", "fetching"]


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


def test_series_that_are_listed_in_another_order_have_not_changed(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    other = pydicom.dcmread(scan("1.2.4")[0])
    other.StudyInstanceUID = "1.2.3"
    other.save_as(tmp_path / "other.dcm")
    fake.send(tmp_path / "other.dcm")
    new_watch(existing=True).look()
    watch = new_watch(existing=True)
    watch.look()
    fake.instances = dict(reversed(fake.instances.items()))
    assert not watch.look()
    assert kinds(fake) == ["SEG", "SR"]


def test_a_study_without_ct_is_left(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.silent = {"ModalitiesInStudy"}
    fake.send(*scan(Modality="MR"))
    watch = new_watch(never, existing=True)
    for _ in range(2):
        watch.look()
    assert told[1:] == ["study 1.2.3: left: it has no CT series"]


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


def test_a_second_watch_on_a_folder_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(LunaError, match="another watch works in it")
    with watching(tmp_path / "dir"), refused, watching(tmp_path / "dir"):
        pytest.fail("it is held")


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    with watching(tmp_path / "dir"):
        for folder in (tmp_path / "dir", tmp_path / "dir" / "results", tmp_path / "dir" / "tmp"):
            assert folder.stat().st_mode & 0o077 == 0


def test_nobody_else_may_look_at_results_in_a_folder_that_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "results").mkdir(mode=0o755)
    with watching(tmp_path):
        assert (tmp_path / "results").stat().st_mode & 0o077 == 0
        assert (tmp_path / "tmp").stat().st_mode & 0o077 == 0
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert "others can see which studies are watched; wanted chmod 700" in caplog.text


def test_what_is_told_and_logged_names_no_patient(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fake.send(*scan("1.2.2")[:3], *scan("1.2.3", PatientID="4711"))
    with caplog.at_level(logging.DEBUG):
        new_watch(existing=True).run(once=True)
    assert "1.2.3" in " ".join(told)
    assert not any(word in " ".join(told) + caplog.text for word in ("Yamada", "4711"))
