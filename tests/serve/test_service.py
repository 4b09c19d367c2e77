"""What the server does, without HTTP. But for those that start it, the tests do the jobs themselves."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Thread

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import Job, Options
from p2ch_luna.serve.refused import Refused
from p2ch_luna.serve.service import Service, Settings
from p2ch_luna.serve.storage import SPARE_BYTES
from support.fake_workers import begin
from support.job_bench import NIFTI, claim, files_of, finished, started, uploaded, wait_until


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(Settings(tmp_path / "served", max_waiting=2, max_upload_bytes=5000), begin)


def test_an_upload_becomes_a_job_that_waits(service: Service) -> None:
    job = uploaded(service)
    assert service.job(job.id) == job
    assert (job.state, job.name) == ("queued", "a scan")
    assert service.storage.scan_path(claim(service.store)).read_bytes() == NIFTI


def test_the_youngest_jobs_come_first(service: Service) -> None:
    ids = [uploaded(service).id, uploaded(service).id]
    assert [job.id for job in service.jobs(10)] == ids[::-1]


def test_a_place_is_promised_after_as_long_as_jobs_took(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.store, "recent_seconds", lambda: [20.0, 40.0])
    uploaded(service)
    uploaded(service)
    with pytest.raises(Refused) as refused, service.admit(None):
        pass
    assert refused.value.retry_after_s == 30


def test_a_full_queue_refuses_and_says_when_to_come_back(service: Service) -> None:
    uploaded(service)
    uploaded(service)
    with pytest.raises(Refused, match="2 jobs wait already") as refused, service.admit(None):
        pass
    assert (refused.value.status, refused.value.retry_after_s) == (429, 10)


def test_uploads_in_progress_take_places(service: Service) -> None:
    with service.admit(None), service.admit(None), pytest.raises(Refused), service.admit(None):
        pass
    with service.admit(None):
        pass


def test_a_committed_upload_takes_one_place_not_two(service: Service) -> None:
    with service.admit(None) as first:
        first.write(NIFTI)
        first.commit("a scan", Options())
        with service.admit(None):
            pass


def test_a_claimed_job_frees_its_place(service: Service) -> None:
    uploaded(service)
    uploaded(service)
    claim(service.store)
    assert uploaded(service).position == 2


def test_of_many_at_once_as_many_as_there_are_places_are_admitted(service: Service) -> None:
    together, admitted, refused = Barrier(8), [], []

    def try_it() -> None:
        together.wait()
        try:
            admitted.append(uploaded(service))
        except Refused as error:
            refused.append(error.status)

    threads = [Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), refused) == (2, [429] * 6)


def test_what_is_declared_too_large_is_refused_at_once(service: Service) -> None:
    with pytest.raises(Refused, match="expected at most 5000 bytes") as refused, service.admit(5001):
        pass
    assert refused.value.status == 413


def test_a_scan_that_does_not_fit_on_the_disk_is_refused_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.storage, "free_bytes", lambda: SPARE_BYTES + 10)
    with pytest.raises(Refused) as refused, service.admit(11):
        pass
    assert refused.value.status == 507
    with service.admit(10):
        pass


def test_uploads_at_once_fit_on_the_disk_together(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [SPARE_BYTES + 3000]
    monkeypatch.setattr(service.storage, "free_bytes", lambda: free[0])
    with service.admit(2000) as first:
        with pytest.raises(Refused) as refused, service.admit(1001):
            pass
        first.write(NIFTI)
        free[0] -= len(NIFTI)
        with service.admit(1000):
            pass
    assert refused.value.status == 507


def test_a_refused_upload_leaves_nothing_and_frees_its_place(service: Service) -> None:
    for _ in range(3):
        with service.admit(None) as taken:
            taken.write(b"hello")
            with pytest.raises(Refused, match="no scan"):
                taken.commit("a scan", Options())
    assert files_of(service) == []


def test_an_upload_that_cannot_be_queued_leaves_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(*_: object) -> Job:
        raise LunaError("jobs.sqlite: database or disk is full")

    monkeypatch.setattr(service.store, "add", add)
    with pytest.raises(LunaError, match="disk is full"):
        uploaded(service)
    assert files_of(service) == []


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_a_deleted_job_leaves_nothing(service: Service, state: str) -> None:
    job = uploaded(service)
    if state == "running":
        claim(service.store)
    elif state == "done":
        finished(service)
    assert service.delete(job.id)
    assert not service.delete(job.id)
    assert service.job(job.id) is None
    assert files_of(service) == []


def test_a_running_job_is_cancelled_before_its_files_go(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = uploaded(service)
    seen = []

    def cancel(job_id: str) -> None:
        seen.append((job_id, service.job(job_id), service.storage.job_folder(job_id).exists()))

    monkeypatch.setattr(service.dispatcher, "cancel", cancel)
    service.delete(job.id)
    assert seen == [(job.id, None, True)]


def test_an_upload_is_not_deleted_before_it_is_a_job(service: Service) -> None:
    with service.admit(None) as taken:
        taken.write(NIFTI)
        assert not service.delete(files_of(service)[0])
        job = taken.commit("a scan", Options())
    assert service.delete(job.id)


def test_a_result_is_found_by_its_name(service: Service) -> None:
    uploaded(service)
    found = service.result(finished(service), "report.json")
    assert found is not None
    assert (found[0].read_text(encoding="utf-8"), found[1].media_type) == ("{}", "application/json")


@pytest.mark.parametrize("name", ["", ".", "../scan.nii", "scan.nii", "report.JSON", "/etc/passwd"])
def test_what_is_no_result_is_not_found(service: Service, name: str) -> None:
    uploaded(service)
    assert service.result(finished(service), name) is None


@pytest.mark.parametrize("job_id", ["", "..", "a" * 32, "' or 1=1 --"])
def test_an_id_that_is_none_is_not_found(service: Service, job_id: str) -> None:
    assert service.job(job_id) is None
    assert service.result(job_id, "report.json") is None
    assert not service.delete(job_id)


def test_health_tells_what_waits_and_runs(service: Service) -> None:
    uploaded(service)
    uploaded(service)
    claim(service.store)
    health = service.health()
    assert (health.status, health.worker, health.queued, health.running) == ("ok", "starting", 1, 1)


def test_a_queue_that_cannot_be_read_is_a_failure(service: Service) -> None:
    service.storage.database.write_bytes(b"no database" * 100)
    health = service.health()
    assert (health.status, health.reason) == ("failing", "the queue of jobs cannot be read")


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(Path("served"), token="secret"))


def test_who_counts_jobs_is_told_of_each_end(service: Service) -> None:
    ends: list[str] = []
    service.on_end = lambda state, _: ends.append(state)
    uploaded(service, "fail")
    with started(service):
        uploaded(service)
        wait_until(lambda: len(ends) == 2)
    assert ends == ["failed", "done"]


def test_a_start_takes_up_what_a_killed_server_left(service: Service) -> None:
    running = uploaded(service)
    claim(service.store)
    stray = service.storage.job_folder("e" * 32)
    stray.mkdir()
    service.storage.new_upload("f" * 32).touch()
    with started(Service(service.settings, begin)) as next_one:
        assert files_of(next_one) == [running.id]
        job = next_one.job(running.id)
    assert job is not None
    assert (job.attempts, job.state) in [(1, "queued"), (2, "running"), (2, "done")]


def test_a_second_server_on_a_folder_is_refused(service: Service) -> None:
    with started(service), pytest.raises(LunaError, match="another server uses it"):
        Service(service.settings, begin).start()
    with started(Service(service.settings, begin)):
        pass


def test_a_failed_job_keeps_neither_scan_nor_half_results_over_a_crash(service: Service) -> None:
    uploaded(service)
    job_id = finished(service, error="no CT")
    service._take_up()
    assert list(service.storage.job_folder(job_id).iterdir()) == []
