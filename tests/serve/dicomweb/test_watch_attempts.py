"""A watch whose diagnosis fails: of the scan, of this machine, or nobody knows why."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.failures import UnreachableError
from p2ch_luna.serve.dicomweb.watch import Watch
from support.dicomweb import FakeDicomweb, kinds

Scan = Callable[..., list[Path]]
NewWatch = Callable[..., Watch]
DONE = "study 1.2.3: 1 finding, SEG and SR stored"


def never(_scan: Path, _results: Path) -> Report:
    raise AssertionError("it was diagnosed")


def test_a_scan_that_cannot_be_read_is_failed_and_the_others_go_on(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    fake.send(*scan("1.2.2")[:3], *scan("1.2.3"))
    new_watch(existing=True).run(once=True)
    assert told[1].startswith("study 1.2.2: failed: ")
    assert told[2:] == [DONE]
    new_watch(never).run(once=True)


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


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: Yamada"), MemoryError(), ValueError("Yamada")])
def test_what_nobody_has_foreseen_ends_the_watch_and_counts(
    error: Exception, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, told: list[str]
) -> None:
    def fail(_scan: Path, _results: Path) -> Report:
        raise error

    fake.send(*scan("1.2.2"), *scan("1.2.3"))
    for _ in range(2):
        with pytest.raises(LunaError, match=rf"study 1\.2\.2: .* {type(error).__name__} \(") as ended:
            new_watch(fail, existing=True).run()
        assert "Yamada" not in str(ended.value)
    assert told[1:] == []
    new_watch(existing=True).run(once=True)
    assert told[1:] == ["study 1.2.2: failed: its diagnosis ended the process 2 times", DONE]


def test_what_nobody_has_foreseen_of_a_fetch_ends_the_watch_and_counts(
    fake: FakeDicomweb, server: Server, new_watch: NewWatch, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    fake.send(*scan())
    monkeypatch.setattr(server, "fetch", fail)
    watch = new_watch(existing=True)
    with pytest.raises(LunaError, match=r"study 1\.2\.3: MemoryError"):
        watch.run()
    entry = watch.record.get("1.2.3")
    assert entry
    assert (entry.state, entry.attempts) == ("seen", 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_disk_that_cannot_be_written_ends_the_watch_and_fails_no_study(
    number: int, is_told: bool, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan
) -> None:
    def full(_scan: Path, _results: Path) -> Report:
        if is_told:
            raise LunaError("out: cannot be written") from OSError(number, "no")
        raise OSError(number, "no")

    fake.send(*scan())
    for _ in range(3):
        with pytest.raises(LunaError):
            new_watch(full, existing=True).run()
    new_watch(existing=True).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]


def test_a_folder_that_is_gone_ends_the_watch_and_fails_no_study(
    fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path, told: list[str]
) -> None:
    fake.send(*scan())
    (tmp_path / "dir" / "tmp").rmdir()
    with pytest.raises(LunaError, match=r"study 1\.2\.3: cannot be written"):
        new_watch(existing=True).run()
    assert len(told) == 1


@pytest.mark.parametrize("name", ["report.json", "nodules.seg.dcm", "nodules.sr.dcm"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_results_that_a_power_cut_has_left_are_made_anew(
    kept: int, name: str, fake: FakeDicomweb, new_watch: NewWatch, scan: Scan, tmp_path: Path
) -> None:
    fake.send(*scan())
    fake.fault = lambda method, _path: 503 if method == "POST" else None
    with pytest.raises(UnreachableError):
        new_watch(existing=True).run(once=True)
    path = tmp_path / "dir" / "results" / "1.2.3" / name
    path.write_bytes(path.read_bytes()[:kept])
    fake.fault = lambda _method, _path: None
    new_watch(existing=True).run(once=True)
    assert kinds(fake) == ["SEG", "SR"]
