"""The queue of jobs, shared by threads and processes, and the file it is."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from p2ch_luna.errors import LunaError
from p2ch_luna.serve import store as module
from p2ch_luna.serve.jobs import Job, Options, Outcome, Stage
from p2ch_luna.serve.store import JobStore
from support.job_bench import claim

DONE = Outcome(is_searched=True, n_findings=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def store(path: Path) -> JobStore:
    return JobStore(path)


def add(store: JobStore, number: int = 1, name: str = "scan") -> Job:
    return store.add(f"{number:032x}", name, "scan.zip", Options())


@contextmanager
def no_file_grows(path: Path) -> Iterator[None]:
    """As on a full disk, for files of the size of `path` and above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def claim_all(path: Path) -> list[str]:
    store = JobStore(path)
    found = []
    while (claimed := store.claim()) is not None:
        store.tell(claimed, [Stage(name="reading")])
        store.end(claimed, DONE)
        found.append(claimed.job_id)
    return found


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_no_job_is_claimed_twice(path: Path, store: JobStore, kind: str) -> None:
    ids = [add(store, number).id for number in range(60)]
    with ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, get_context("fork")) as pool:
        found = [job_id for claimed in pool.map(claim_all, [path] * 2) for job_id in claimed]
    assert sorted(found) == ids
    assert store.counts()["done"] == len(ids)


def test_stores_of_one_new_file_are_made_at_once(path: Path) -> None:
    together = threading.Barrier(8)

    def make() -> JobStore:
        together.wait()
        return JobStore(path)

    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(make) for _ in range(8)]
    assert [each.result().recent(1) for each in made] == [[]] * 8


def test_the_database_is_its_owners_alone(path: Path, store: JobStore) -> None:
    add(store)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_database_of_another_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 7")
    db.close()
    with pytest.raises(LunaError, match=r"jobs\.sqlite: jobs of version 7; expected 1"):
        JobStore(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"something else" * 100)
    with pytest.raises(LunaError, match="file is not a database"):
        JobStore(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LunaError, match="cannot be opened"):
        JobStore(tmp_path / "nowhere" / "jobs.sqlite")


def test_a_job_that_does_not_fit_on_the_disk_is_told_and_not_there(path: Path, store: JobStore) -> None:
    add(store)
    with no_file_grows(path), pytest.raises(LunaError, match="and room on the disk"):
        add(store, 2, "x" * 100_000)
    assert [job.name for job in store.recent(10)] == ["scan"]
    assert add(store, 2).position == 2


def test_a_job_that_cannot_be_read_back_has_not_been_added(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: sqlite3.Row) -> Job:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as failing:
        failing.setattr(module, "_job", fail)
        with pytest.raises(LunaError, match="I/O error"):
            add(store)
    assert store.ids() == set()
    assert add(store).position == 1  # nothing is locked


def test_many_jobs_are_read_by_one_statement(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        add(store, number)
    said: list[str] = []
    connect = sqlite3.connect

    def traced(*given: object, **options: object) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*given, **options)  # type: ignore[call-overload]
        db.set_trace_callback(said.append)
        return db

    monkeypatch.setattr(sqlite3, "connect", traced)
    assert [job.position for job in store.recent(500)] == list(range(20, 0, -1))
    assert len([words for words in said if "select" in words.lower()]) == 1


def test_a_job_can_end_and_go_where_no_file_is_made(path: Path, store: JobStore) -> None:
    add(store)
    claimed = claim(store)
    store.tell(claimed, [Stage(name="reading")])
    before = files(path)
    assert f"{path.name}-journal" in before
    store.end(claimed, DONE)
    store.remove(claimed.job_id)
    assert files(path) == before


def files(path: Path) -> dict[str, tuple[int, int]]:
    """Number and size of the database and of what lies beside it."""
    return {file.name: (file.stat().st_ino, file.stat().st_size) for file in path.parent.iterdir()}


def test_no_connection_stays_open(path: Path, store: JobStore) -> None:
    add(store)
    claim(store)
    open_files = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert path.resolve() not in open_files
