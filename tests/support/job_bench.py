"""A queue of jobs with their files, as the server has them, and a dispatcher at work on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

from p2ch_luna.serve.dispatcher import Diagnose, Dispatcher
from p2ch_luna.serve.jobs import Job, Options
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.worker import WorkerSettings
from support.fake_workers import PIDS, begin, is_alive, read

LONG_S = 30.0  # for what takes a second


class Bench:
    """A store and its files, with a dispatcher while one is `working`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = Storage(folder)
        self.store = JobStore(self.storage.database, keep_seconds=60)

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
        dispatcher = Dispatcher(self.store, self.storage, told, job_seconds)
        dispatcher.start()
        try:
            yield dispatcher
        finally:
            dispatcher.stop()
        assert not any(is_alive(pid) for pid in self.pids)


def wait_until(is_so: Callable[[], bool], seconds: float = LONG_S) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
