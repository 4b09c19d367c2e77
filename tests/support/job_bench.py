"""A queue of jobs with their files, as the server has them, and a dispatcher at work on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from p2ch_luna.serve.dispatcher import Dispatcher
from p2ch_luna.serve.jobs import Claim, Diagnose, Job, Options, Outcome, State
from p2ch_luna.serve.service import Service
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.worker import WorkerSettings
from support.fake_workers import FILES, PIDS, begin, is_alive, read, write_results

LONG_S = 30.0  # for what takes a second
NIFTI = (
    b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(1000)
)  # the begin of a scan, as an upload is judged by
RESULTS = sorted(f"results/{name}" for name in FILES)  # in the folder of a job that is done


class Bench:
    """A store and its files, with a dispatcher while one is `working`. ends: what that has told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = Storage(folder)
        self.store = JobStore(self.storage.database)
        self.ends: list[tuple[State, float]] = []

    def add(self, name: str, content: bytes = b"") -> str:
        job_id = uuid4().hex
        self.storage.new_upload(job_id).write_bytes(content)
        self.store.add(job_id, name, self.storage.adopt(job_id, ".mha"), Options())
        return job_id

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def ended(self, job_id: str, seconds: float = LONG_S) -> Job:
        wait_until(lambda: self.job(job_id).has_ended, seconds)
        return self.job(job_id)

    def files(self, job_id: str) -> list[str]:
        folder = self.storage.job_folder(job_id)
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in read(self.folder, PIDS)]

    @contextmanager
    def working(
        self, start: Callable[[WorkerSettings], Diagnose] = begin, job_seconds: float = 600.0
    ) -> Iterator[Dispatcher]:
        """A dispatcher within the block; afterwards none of its processes is left."""
        told = partial(start, WorkerSettings(self.folder))
        dispatcher = Dispatcher(
            self.store, self.storage, told, job_seconds, lambda *end: self.ends.append(end)
        )
        dispatcher.start()
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
        assert not any(is_alive(pid) for pid in self.pids)


def claim(store: JobStore) -> Claim:
    """The job that has waited longest; there is one."""
    claimed = store.claim()
    assert claimed is not None
    return claimed


def uploaded(service: Service, name: str = "a scan") -> Job:
    """The job of a scan that has been sent."""
    with service.admit(len(NIFTI)) as upload:
        upload.write(NIFTI)
        return upload.commit(name, Options())


def finished(service: Service, error: str | None = None) -> str:
    """The id of the job that has waited longest; it has come to results, or to an error."""
    claimed = claim(service.store)
    outcome = write_results(service.storage, claimed)
    service.store.end(claimed, outcome if error is None else Outcome(error=error))
    return claimed.job_id


def files_of(service: Service) -> list[str]:
    """What there is of uploads and jobs."""
    return [path.name for name in ("uploads", "jobs") for path in (service.storage.folder / name).iterdir()]


@contextmanager
def started(service: Service) -> Iterator[Service]:
    """At work within the block."""
    service.start()
    try:
        yield service
    finally:
        service.stop()


def wait_until(is_so: Callable[[], bool], seconds: float = LONG_S) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
