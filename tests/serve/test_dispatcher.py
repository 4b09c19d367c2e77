"""Jobs in a worker process that does as they say: each comes to an end, whatever happens to the worker."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest

from p2ch_luna.processes import Crew
from p2ch_luna.serve import dispatcher as module
from p2ch_luna.serve.jobs import Claim
from support.fake_workers import (
    ATTEMPTS,
    NETWORKS,
    begin_and_die,
    begin_where_networks_are,
    is_alive,
    read,
)
from support.job_bench import RESULTS, Bench, wait_until


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "serve")


def test_jobs_are_done_in_their_order_by_one_process(bench: Bench) -> None:
    first, second = bench.add("a"), bench.add("b")
    with bench.working():
        assert bench.ended(second).state == bench.ended(first).state == "done"
    assert read(bench.folder, ATTEMPTS) == ["a 1", "b 1"]
    assert len(bench.pids) == 1


def test_a_job_that_comes_later_is_begun_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 600.0)
    with bench.working() as dispatcher:
        wait_until(lambda: dispatcher.state == "ready")
        job_id = bench.add("a")
        dispatcher.wake()
        assert bench.ended(job_id).n_findings == 1


def test_the_scan_goes_and_the_results_stay(bench: Bench) -> None:
    job_id = bench.add("a")
    with bench.working():
        bench.ended(job_id)
    assert bench.files(job_id) == RESULTS


def test_of_a_job_that_failed_nothing_stays_and_the_next_is_done(bench: Bench) -> None:
    failed, good = bench.add("fail"), bench.add("a")
    with bench.working():
        bench.ended(good)
    assert bench.job(failed).error == "no CT"
    assert bench.files(failed) == []


def test_a_job_whose_worker_is_killed_is_tried_once_more(bench: Bench) -> None:
    job_id = bench.add("kill-once")
    with bench.working():
        job = bench.ended(job_id)
    assert (job.state, job.attempts) == ("done", 2)


def test_a_job_that_kills_each_worker_fails_and_the_next_is_done(bench: Bench) -> None:
    bad, good = bench.add("kill"), bench.add("a")
    with bench.working():
        assert bench.ended(good).state == "done"
    assert bench.job(bad).error == (
        "the process that diagnosed it was killed by signal 9 (out of memory?); it was tried 2 times"
    )
    assert bench.files(bad) == []
    assert read(bench.folder, ATTEMPTS) == ["kill 1", "kill 2", "a 1"]


def test_a_worker_that_was_asked_to_end_costs_the_job_no_attempt(bench: Bench) -> None:
    job_id = bench.add("leave")
    with bench.working():
        job = bench.ended(job_id)
    assert (job.state, job.attempts) == ("done", 1)
    assert len(bench.pids) == 2


def test_a_job_that_a_full_disk_hindered_is_tried_once_more_after_a_pause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOM_SECONDS", 1.0)
    job_id = bench.add("full-once")
    with bench.working() as dispatcher:
        wait_until(lambda: dispatcher.state == "failing")
        assert dispatcher.reason == "the disk is full"
        assert (bench.job(job_id).state, bench.files(job_id)) == ("queued", ["scan.mha"])
        job = bench.ended(job_id)
    assert (job.state, job.attempts, len(bench.pids)) == ("done", 2, 1)


def test_a_job_that_a_full_disk_hinders_again_fails_and_the_next_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "ROOM_SECONDS", 0.1)
    bad, good = bench.add("full of Mrs Example"), bench.add("a")
    with bench.working():
        assert bench.ended(good).state == "done"
    assert bench.job(bad).error == "full of Mrs Example: no space left; it was tried 2 times"
    assert bench.files(bad) == []
    assert "Example" not in caplog.text


def test_each_end_is_told_once_with_its_seconds(bench: Bench) -> None:
    last = [bench.add(name) for name in ("fail", "kill-once", "brief", "kill")][-1]
    with bench.working() as dispatcher:
        bench.ended(last)
        wait_until(lambda: dispatcher.state == "ready")
    assert [state for state, _ in bench.ends] == ["failed", "done", "done", "failed"]
    assert 0.5 <= bench.ends[2][1] < module.START_SECONDS


def test_a_job_that_no_process_could_be_handed_has_not_been_tried(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    hand_out, failures = Crew.hand_out, [OSError("no process")] * 3

    def fail_at_first(crew: Crew[object, object], tasks: deque[object]) -> None:
        if isinstance(tasks[0], Claim) and failures:
            raise failures.pop()
        hand_out(crew, tasks)

    monkeypatch.setattr(Crew, "hand_out", fail_at_first)
    job_id = bench.add("a")
    with bench.working():
        job = bench.ended(job_id)
    assert (job.state, job.attempts, failures) == ("done", 1, [])


def test_a_job_that_takes_too_long_fails_and_the_next_is_done(bench: Bench) -> None:
    slow, good = bench.add("sleep"), bench.add("a")
    with bench.working(job_seconds=0.5):
        assert bench.ended(good).state == "done"
    job = bench.job(slow)
    assert (job.error, job.attempts) == ("the diagnosis took longer than 0.5 seconds and was ended", 1)
    assert bench.files(slow) == []


def test_a_job_that_is_cancelled_ends_at_once_and_the_next_is_done(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slow = bench.add("sleep")
    with bench.working() as dispatcher:
        wait_until(lambda: read(bench.folder, ATTEMPTS) == ["sleep 1"])
        good = bench.add("a")
        assert bench.store.remove(slow)
        dispatcher.cancel(slow)
        assert not is_alive(bench.pids[0])  # nothing more is written
        assert bench.files(slow) == []
        assert bench.ended(good).state == "done"
    assert bench.store.ids() == {good}
    assert [state for state, _ in bench.ends] == ["done"]
    assert (f"job {slow}: cancelled", logging.INFO) in [
        (record.getMessage(), record.levelno) for record in caplog.records
    ]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_to_cancel_another_job_changes_nothing(bench: Bench) -> None:
    running, waiting = bench.add("sleep"), bench.add("a")
    with bench.working() as dispatcher:
        wait_until(lambda: dispatcher.state == "busy")
        dispatcher.cancel(waiting)
        assert bench.job(running).state == "running"


def test_a_job_under_way_waits_again_after_a_stop_in_good_order(bench: Bench) -> None:
    job_id = bench.add("sleep-once")
    with bench.working():
        wait_until(lambda: read(bench.folder, ATTEMPTS) == ["sleep-once 1"])
    job = bench.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert bench.files(job_id) == ["scan.mha"]
    with bench.working():
        assert bench.ended(job_id).state == "done"


def test_a_worker_that_dies_while_it_waits_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.1)
    with bench.working() as dispatcher:
        wait_until(lambda: dispatcher.state == "ready")
        os.kill(bench.pids[0], signal.SIGKILL)
        wait_until(lambda: len(bench.pids) == 2)
        job_id = bench.add("a")
        assert bench.ended(job_id).attempts == 1


def test_without_networks_jobs_wait_until_there_are_some(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.1, 0.2))
    job_id = bench.add("a")
    with bench.working(begin_where_networks_are) as dispatcher:
        wait_until(lambda: dispatcher.state == "failing")
        assert dispatcher.reason == "networks: not there; expected weights"
        assert bench.job(job_id).state == "queued"
        (bench.folder.parent / NETWORKS).touch()
        assert bench.ended(job_id).state == "done"
        wait_until(lambda: dispatcher.state == "ready")
        assert dispatcher.reason is None


def test_a_worker_that_dies_as_it_begins_is_told(bench: Bench) -> None:
    with bench.working(begin_and_die) as dispatcher:
        wait_until(lambda: dispatcher.state == "failing")
        assert dispatcher.reason == "the process that loads the networks ended with code 7"


def test_results_are_recorded_as_soon_as_the_queue_can_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr("p2ch_luna.serve.store.WAIT_SECONDS", 0.1)
    job_id = bench.add("brief")
    with bench.working() as dispatcher:
        wait_until(lambda: read(bench.folder, ATTEMPTS) == ["brief 1"])
        with closing(sqlite3.connect(bench.storage.database, isolation_level=None)) as other:
            other.execute("begin immediate")
            wait_until(lambda: dispatcher.state == "failing")
            other.execute("rollback")
        job = bench.ended(job_id)
    assert (job.state, job.attempts) == ("done", 1)
    assert bench.files(job_id) == RESULTS


def test_a_queue_that_cannot_be_written_for_a_while_costs_no_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr("p2ch_luna.serve.store.WAIT_SECONDS", 0.1)
    with bench.working() as dispatcher:
        wait_until(lambda: dispatcher.state == "ready")
        job_id = bench.add("a")
        with closing(sqlite3.connect(bench.storage.database, isolation_level=None)) as other:
            other.execute("begin immediate")
            dispatcher.wake()
            wait_until(lambda: dispatcher.state == "failing")
            assert "locked" in (dispatcher.reason or "")
            other.execute("rollback")
        assert bench.ended(job_id).state == "done"
    assert len(bench.pids) == 1
