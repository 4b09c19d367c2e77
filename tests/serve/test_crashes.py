"""A server that is killed in the midst of a job, and the one that is started after it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2ch_luna.serve.service import Service, Settings
from support.fake_workers import ATTEMPTS, begin, is_alive, read
from support.job_bench import RESULTS, Bench, started, wait_until

SERVER = """
import sys
import time
from pathlib import Path
from p2ch_luna.serve.service import Service, Settings
from support.fake_workers import begin

if __name__ == "__main__":
    Service(Settings(Path(sys.argv[1])), begin).start()
    time.sleep(600)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "serve")


def kill_in_the_midst(bench: Bench, attempt: str) -> None:
    """A server in a process of its own is killed as soon as its worker is at this attempt."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", SERVER, str(bench.folder)], env=environment) as server:
        try:
            wait_until(lambda: attempt in read(bench.folder, ATTEMPTS))
        finally:
            server.kill()


def test_the_worker_of_a_killed_server_is_gone_within_a_second(bench: Bench) -> None:
    bench.add("sleep")
    kill_in_the_midst(bench, "sleep 1")
    killed = time.monotonic()
    wait_until(lambda: not is_alive(bench.pids[0]))
    assert time.monotonic() - killed < 1


def test_after_a_crash_the_next_server_does_the_job_before_others(bench: Bench) -> None:
    job_id, other = bench.add("sleep-once"), bench.add("a")
    kill_in_the_midst(bench, "sleep-once 1")
    with started(Service(Settings(bench.folder), begin)):
        assert bench.ended(other).state == "done"
    job = bench.job(job_id)
    assert (job.state, job.attempts) == ("done", 2)
    assert bench.files(job_id) == RESULTS
    assert read(bench.folder, ATTEMPTS) == ["sleep-once 1", "sleep-once 2", "a 1"]


def test_after_the_second_crash_the_job_has_failed_and_the_next_is_done(bench: Bench) -> None:
    job_id, other = bench.add("sleep"), bench.add("a")
    kill_in_the_midst(bench, "sleep 1")
    kill_in_the_midst(bench, "sleep 2")
    with started(Service(Settings(bench.folder), begin)):
        assert bench.ended(other).state == "done"
    assert bench.job(job_id).error == "the server ended in the midst of it; it was tried 2 times"
    assert bench.files(job_id) == []


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(bench: Bench) -> None:
    job_id = bench.add("sleep")
    with started(Service(Settings(bench.folder), begin)) as service:
        wait_until(lambda: read(bench.folder, ATTEMPTS) == ["sleep 1"])
        assert service.delete(job_id)
        assert service.job(job_id) is None
        assert not bench.storage.job_folder(job_id).exists()
        later = bench.add("a")
        assert bench.ended(later).state == "done"
    assert not bench.storage.job_folder(job_id).exists()
