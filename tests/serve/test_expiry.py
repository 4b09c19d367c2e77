"""Results that are kept for a time, and gone after it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve import service as service_module
from p2ch_luna.serve.service import LONGEST_KEEP_S, Service, Settings
from support.fake_workers import begin
from support.job_bench import files_of, finished, started, uploaded, wait_until


@pytest.fixture
def expired(tmp_path: Path) -> tuple[Service, str, str]:
    """A service, a job that has expired and is still on the disk, and one that waits."""
    service = Service(Settings(tmp_path / "served", keep_seconds=0), begin)
    uploaded(service)
    waiting = uploaded(service)
    return service, finished(service), waiting.id


@pytest.mark.parametrize("keep_seconds", [-1.0, 4e8, float("inf"), float("nan")])
def test_a_time_to_keep_results_that_is_none_is_refused(keep_seconds: float) -> None:
    with pytest.raises(LunaError, match=r"keep_seconds is .*; expected 0 to 3\.6e\+08"):
        Settings(Path("served"), keep_seconds=keep_seconds)


def test_what_is_kept_for_the_longest_time_can_be_told(tmp_path: Path) -> None:
    service = Service(Settings(tmp_path / "served", keep_seconds=LONGEST_KEEP_S), begin)
    uploaded(service)
    job = service.job(finished(service))
    assert job is not None
    assert job.ended is not None
    assert job.expires == job.ended + timedelta(days=1e5 / 24)


def test_a_result_expires_with_its_job(expired: tuple[Service, str, str]) -> None:
    service, _, waiting = expired
    service.expire()
    assert files_of(service) == [waiting]
    assert service.store.ids() == {waiting}


def test_what_has_expired_is_not_there_even_before_it_is_removed(expired: tuple[Service, str, str]) -> None:
    service, gone, waiting = expired
    assert service.store.get(gone) is not None
    assert service.job(gone) is None
    assert service.result(gone, "report.json") is None
    assert [job.id for job in service.jobs(10)] == [waiting]


def test_what_expires_goes_in_time_whatever_has_failed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [PermissionError("of Mrs Example"), LunaError("jobs.sqlite: locked")]
    expire = Service.expire

    def fail_at_first(service: Service) -> None:
        if failures:
            raise failures.pop()
        expire(service)

    monkeypatch.setattr(Service, "expire", fail_at_first)
    monkeypatch.setattr(service_module, "EXPIRE_SECONDS", (0.1, 3600.0))
    service = Service(Settings(tmp_path / "served", keep_seconds=0.2), begin)
    job = uploaded(service)
    with started(service):
        wait_until(lambda: not service.storage.job_folder(job.id).exists())
    assert [line for line in caplog.messages if "removed: PermissionError (test_expiry.py" in line]
    assert [line for line in caplog.messages if "removed: jobs.sqlite: locked" in line]
    assert "Example" not in caplog.text
