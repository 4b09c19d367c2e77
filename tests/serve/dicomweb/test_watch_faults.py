"""A watch of a server that does not answer, or oddly: no other study is kept waiting, and none done twice."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.failures import DeniedError, UnreachableError, WrongServerError
from p2ch_luna.serve.dicomweb.study import Diagnose
from p2ch_luna.serve.dicomweb.watch import Watch
from support.diagnosed import FixedDetector
from support.dicomweb import FakeDicomweb, kinds

Scan = Callable[..., list[Path]]
NewWatch = Callable[..., Watch]
DONE = "study 1.2.3: 1 finding, SEG and SR stored"


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


def test_a_url_without_dicomweb_ends_the_watch_and_fails_no_study(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    watch = new_watch(existing=True)
    watch.look()
    asked = itertools.count()
    fake.fault = lambda _method, _path: 404 if next(asked) > 1 else None  # both pages of the list are had
    with pytest.raises(WrongServerError):
        watch.run()
    assert len(told) == 1


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


@pytest.mark.parametrize("part", ["series", "/instances/"])
def test_a_study_that_cannot_be_had_keeps_no_other_waiting(
    part: str, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan("1.2.2"), *scan("1.2.3"))
    fake.fault = lambda _method, path: 500 if path.startswith("studies/1.2.2/") and part in path else None
    watch = new_watch(existing=True)
    for _ in range(2):
        assert watch.look()
    assert told[1:] == [DONE]
    with pytest.raises(UnreachableError, match=r"study 1\.2\.2: .* answers 500"):
        watch.run(once=True)


def test_a_study_that_cannot_be_had_does_not_slow_the_looks(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise KeyboardInterrupt

    fake.send(*scan())
    fake.fault = lambda _method, path: 500 if "/instances/" in path else None
    with pytest.raises(KeyboardInterrupt):
        new_watch(existing=True, sleep=sleep).run()
    assert pauses == [30] * 5


def test_a_study_that_cannot_be_had_is_left_alone_longer_each_time(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    fake.send(*scan())
    fake.fault = lambda _method, path: 500 if "/instances/" in path else None
    watch = new_watch(existing=True, clock=lambda: now)
    now = 0.0
    watch.look()
    for due in (0.0, 60.0, 180.0):
        now = due
        with pytest.raises(UnreachableError):
            watch.look()
        now += 59
        assert watch.look()
    assert [record.getMessage().split()[-2] for record in caplog.records] == ["60", "120", "240"]


def test_what_is_no_study_any_more_is_forgotten(fake: FakeDicomweb, new_watch: NewWatch, scan: Scan) -> None:
    fake.send(*scan())
    fake.fault = lambda _method, path: 500 if "/instances/" in path else None
    watch = new_watch(existing=True)
    watch.look()
    with pytest.raises(UnreachableError):
        watch.look()
    fake.instances.clear()
    assert not watch.look()
    assert watch._troubles == watch._counts == {}


def test_a_study_that_is_listed_and_not_there_does_not_end_the_watch(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan("1.2.2"), *scan("1.2.3"))
    fake.fault = lambda _method, path: 404 if path.startswith("studies/1.2.2/") else None
    watch = new_watch(existing=True)
    for _ in range(2):
        watch.look()
    assert told[1:] == ["study 1.2.2: left: it is gone from the server", DONE]


@pytest.mark.parametrize("fault", [404, None])
def test_an_instance_that_is_not_what_is_listed_fails_its_study_in_the_end(
    fault: int | None, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    odd = sorted(fake.instances)[10]
    fake.sent[odd] = b"<h1>Internal</h1>"
    fake.fault = lambda _method, path: fault if path.endswith(odd) else None
    watch = new_watch(existing=True)
    watch.look()
    for _ in range(2):
        with pytest.raises(UnreachableError):
            watch.look()
    assert not watch.look()
    assert told[1].startswith("study 1.2.3: failed: ")
    assert told[1].endswith(f"expected instance {odd}")


def test_findings_of_a_study_that_is_deleted_meanwhile_are_not_stored(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, diagnose: Diagnose, told: list[str]
) -> None:
    def deleting(scan: Path, results: Path) -> Report:
        fake.instances.clear()
        return diagnose(scan, results)

    fake.send(*scan())
    new_watch(deleting, existing=True).run(once=True)
    assert told[1:] == ["study 1.2.3: left: it is gone from the server; nothing is stored"]
    assert fake.instances == {}


def test_a_diagnosed_study_that_is_gone_is_left(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    fake.fault = lambda method, _path: 503 if method == "POST" else None
    with pytest.raises(UnreachableError):
        new_watch(existing=True).run(once=True)
    fake.instances.clear()
    watch = new_watch()
    for _ in range(2):
        watch.look()
    assert told[1:] == ["study 1.2.3: left: it is gone from the server"]


def test_a_server_that_is_out_of_room_is_asked_again(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan())
    fake.refused_reason = 0xA700
    watch = new_watch(existing=True)
    watch.look()
    with pytest.raises(UnreachableError, match="0xA700"):
        watch.look()
    fake.refused_reason = None
    assert not watch.look()
    assert told[1:] == [DONE]
