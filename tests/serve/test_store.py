"""The queue of jobs on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import Claim, Job, Options, Outcome, ResultFile, Stage
from p2ch_luna.serve.store import JobStore
from support.job_bench import claim

FILE = ResultFile(name="report.json", bytes=12, media_type="application/json")
DONE = Outcome(is_searched=True, n_findings=2, warnings=("thick slices",), results=(FILE,))


class Clock:
    """One that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0  # 1970 itself is a time as any other

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(path: Path, clock: Clock) -> JobStore:
    return JobStore(path, clock)


def id_of(number: int) -> str:
    return f"{number:032x}"


def add(store: JobStore, number: int = 1) -> Job:
    return store.add(id_of(number), f"scan {number}", "scan.zip", Options())


def get(store: JobStore, number: int = 1) -> Job:
    job = store.get(id_of(number))
    assert job is not None
    return job


def test_a_new_job_waits(store: JobStore) -> None:
    job = add(store)
    assert (job.state, job.position, job.attempts, job.has_ended) == ("queued", 1, 0, False)
    assert job.created == datetime(1970, 1, 1, tzinfo=UTC)
    assert (job.started, job.ended) == (None, None)


def test_a_job_is_got_as_it_was_added(store: JobStore) -> None:
    assert add(store) == get(store)


def test_a_job_that_is_not_there_is_none(store: JobStore) -> None:
    assert store.get(id_of(1)) is None


def test_an_id_is_not_taken_twice(store: JobStore) -> None:
    add(store)
    with pytest.raises(LunaError, match="UNIQUE"):
        add(store)


def test_who_has_waited_longest_is_claimed_first(store: JobStore) -> None:
    add(store, 2)
    add(store, 1)
    assert [claim(store).job_id, claim(store).job_id, store.claim()] == [id_of(2), id_of(1), None]


def test_a_claim_says_what_is_to_be_done(store: JobStore) -> None:
    options = Options(fp_per_scan=4, series_uid="1.2.3")
    store.add(id_of(1), "a scan", "scan.nii.gz", options)
    assert store.claim() == Claim(id_of(1), 1, "a scan", "scan.nii.gz", options)


def test_a_claimed_job_runs(store: JobStore, clock: Clock) -> None:
    add(store)
    clock.seconds = 5
    claim(store)
    job = get(store)
    assert (job.state, job.position, job.attempts) == ("running", None, 1)
    assert job.started == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


def test_the_position_counts_those_that_wait(store: JobStore) -> None:
    for number in (1, 2, 3):
        add(store, number)
    claim(store)
    assert [get(store, number).position for number in (1, 2, 3)] == [None, 1, 2]


def test_the_youngest_jobs_come_first(store: JobStore) -> None:
    for number in (1, 2, 3):
        add(store, number)
    assert [job.id for job in store.recent(2)] == [id_of(3), id_of(2)]


def test_stages_are_told(store: JobStore) -> None:
    add(store)
    stages = (Stage(name="reading", seconds=0.5), Stage(name="segmentation", fraction=0.25))
    store.tell(claim(store), stages)
    assert get(store).stages == stages


def test_a_job_ends_with_its_results(store: JobStore, clock: Clock) -> None:
    add(store)
    claimed = claim(store)
    clock.seconds = 7
    assert store.end(claimed, DONE)
    job = get(store)
    assert (job.state, job.error, job.has_ended) == ("done", None, True)
    assert (job.is_searched, job.n_findings, job.warnings, job.results) == (
        *(True, 2, ("thick slices",), (FILE,)),
    )
    assert job.ended == datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC)


def test_an_error_is_a_failure(store: JobStore) -> None:
    add(store)
    store.end(claim(store), Outcome(error="no CT"))
    assert (get(store).state, get(store).error) == ("failed", "no CT")


def test_an_interrupted_job_waits_again_before_the_others(store: JobStore) -> None:
    add(store, 1)
    claimed = claim(store)
    add(store, 2)
    assert store.interrupted(claimed, "killed") == "queued"
    assert get(store, 1).position == 1
    assert claim(store) == Claim(id_of(1), 2, "scan 1", "scan.zip", Options())


def test_an_attempt_begins_without_the_stages_of_the_last(store: JobStore) -> None:
    add(store)
    first = claim(store)
    store.tell(first, [Stage(name="reading")])
    store.interrupted(first, "killed")
    assert get(store).stages
    claim(store)
    assert get(store).stages == ()


def test_a_job_interrupted_twice_has_failed_with_the_reason(store: JobStore) -> None:
    add(store)
    store.interrupted(claim(store), "killed")
    assert store.interrupted(claim(store), "killed by signal 9") == "failed"
    assert get(store).state == "failed"
    assert get(store).error == "killed by signal 9; it was tried 2 times"


def test_a_job_that_is_given_back_was_not_begun(store: JobStore) -> None:
    before = add(store)
    claimed = claim(store)
    store.tell(claimed, [Stage(name="reading")])
    store.give_back(claimed)
    assert get(store) == before


def test_a_stale_attempt_changes_nothing(store: JobStore) -> None:
    add(store)
    stale = claim(store)
    store.interrupted(stale, "killed")
    claim(store)
    before = get(store)
    store.tell(stale, [Stage(name="reading")])
    store.give_back(stale)
    assert not store.end(stale, DONE)
    assert store.interrupted(stale, "killed") is None
    assert get(store) == before


def test_what_has_ended_does_not_change(store: JobStore) -> None:
    add(store)
    claimed = claim(store)
    store.end(claimed, DONE)
    before = get(store)
    store.tell(claimed, [Stage(name="reading")])
    assert not store.end(claimed, Outcome(error="late"))
    assert get(store) == before


@pytest.mark.parametrize("n_crashes", [1, 2])
def test_recovery_from_crashes_of_the_server(path: Path, n_crashes: int) -> None:
    store = JobStore(path)
    add(store, 1)
    add(store, 2)
    for _ in range(n_crashes):
        claim(store)
        store = JobStore(path)
        assert store.recover("the server ended") == [id_of(1)]
    expected = {1: ("queued", None), 2: ("failed", "the server ended; it was tried 2 times")}[n_crashes]
    assert (get(store, 1).state, get(store, 1).error) == expected
    assert get(store, 2).state == "queued"


def test_a_removed_job_is_forgotten_while_it_runs(store: JobStore) -> None:
    add(store)
    claimed = claim(store)
    assert store.remove(id_of(1))
    assert not store.remove(id_of(1))
    assert not store.end(claimed, DONE)
    assert store.ids() == set()


def test_only_what_ended_by_a_time_is_named(store: JobStore, clock: Clock) -> None:
    for number in (1, 2, 3, 4):
        add(store, number)
    store.end(claim(store), DONE)
    clock.seconds = 1
    store.end(claim(store), DONE)
    claim(store)
    assert store.ended_by(-0.5) == []
    assert store.ended_by(0.5) == [id_of(1)]
    assert store.ended_by(1) == [id_of(1), id_of(2)]


def test_jobs_are_counted_by_state(store: JobStore) -> None:
    for number in (1, 2, 3, 4):
        add(store, number)
    store.end(claim(store), DONE)
    claim(store)
    assert store.counts() == {"queued": 2, "running": 1, "done": 1, "failed": 0}
    assert store.ids("running", "done") == {id_of(1), id_of(2)}
    assert store.ids("failed") == set()
    assert len(store.ids()) == 4


def test_the_last_jobs_with_results_say_how_long_one_takes(store: JobStore, clock: Clock) -> None:
    for number, outcome in enumerate([DONE, DONE, Outcome(error="no CT"), DONE]):
        add(store, number)
        claimed = claim(store)
        clock.seconds += 10 + number
        store.end(claimed, outcome)
    assert store.recent_seconds(2) == [13, 11]
