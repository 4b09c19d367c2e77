"""What the server does, without HTTP: it takes scans in, keeps their jobs, and hands out results."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError
from p2ch_luna.frozen import Frozen
from p2ch_luna.serve import worker
from p2ch_luna.serve.dispatcher import Dispatcher
from p2ch_luna.serve.jobs import Claim, Job, Options, Outcome, ResultFile
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.uploads import Refused, Upload
from p2ch_luna.serve.worker import WorkerSettings

if TYPE_CHECKING:
    from p2ch_luna.inference.runtime import Runtime  # the networks' libraries are for the worker alone

__all__ = ["Health", "Refused", "Service", "Settings", "Upload"]

SPARE_BYTES = 1 << 30  # of the disk, left to the results of the jobs that are there
EXPIRE_SECONDS = 3600.0  # between two looks for results that have expired
LONGEST_RETRY_S = 600
_GUESSED_SECONDS = 60.0  # of a job, before the first has come to results
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How to serve.

    keep_seconds: from the end of a job until it is removed with its results.
    job_seconds: an attempt may take; then the job has failed.    threads: None: as many as torch takes.
    token: None: whoever reaches the server may use it.
    """

    folder: Path
    max_upload_bytes: int = 2 << 30
    max_waiting: int = 16  # jobs that are queued or being uploaded
    keep_seconds: float = 7 * 86400
    job_seconds: float = 1800.0
    device: str = "cpu"
    runtime: Runtime = "torch"
    threads: int | None = None
    token: str | None = field(default=None, repr=False)


class Health(Frozen):
    """Whether jobs get done. reason: why not, or what is wrong otherwise."""

    status: Literal["ok", "failing"]
    version: str
    worker: Literal["starting", "ready", "busy", "failing"]
    queued: int
    running: int
    reason: str | None = None


class Service:
    """All that a server holds. Its methods may be called from any thread.

    A `Refused` is for the client. Any other LunaError is for the log: it names places on the disk.
    begin: makes, in the worker process, what does a job there.
    """

    def __init__(
        self, settings: Settings, begin: Callable[[WorkerSettings], Callable[[Claim], Outcome]] = worker.begin
    ) -> None:
        self.settings = settings
        self.storage = Storage(settings.folder)
        self.store = JobStore(self.storage.database, settings.keep_seconds)
        wanted = WorkerSettings(self.storage.folder, settings.device, settings.runtime, settings.threads)
        self.dispatcher = Dispatcher(self.store, self.storage, partial(begin, wanted), settings.job_seconds)
        self._lock = threading.Lock()
        self._uploading: set[str] = set()  # ids of uploads in progress: each has a place in the queue
        self._running = ExitStack()

    def start(self) -> None:
        """Take up what an earlier server has left, and begin to work.

        Raises LunaError where another server uses the folder.
        """
        with ExitStack() as stack:
            stack.enter_context(self.storage.claimed())
            self._take_up()
            self.dispatcher.start()
            stack.callback(self.dispatcher.stop)
            stack.enter_context(self._expiring())
            self._running = stack.pop_all()

    def stop(self) -> None:
        """End in good order: a job that runs waits again. May be called twice."""
        self._running.close()

    @contextmanager
    def admit(self, declared_bytes: int | None) -> Iterator[Upload]:
        """An upload, and its place in the queue until the block ends. What is not committed is removed.

        declared_bytes: its size as the client says; None: it does not.
        Raises Refused: 413 too large, 507 too little room on the disk, 429 too many jobs wait.
        """
        self._check_size(declared_bytes or 0)
        job_id = uuid4().hex
        self._take_place(job_id)
        try:
            with Upload(job_id, self.storage, self.settings.max_upload_bytes, self._queue) as upload:
                yield upload
        finally:
            with self._lock:
                self._uploading.discard(job_id)

    def job(self, job_id: str) -> Job | None:
        """The job of this id."""
        return self.store.get(job_id)

    def jobs(self, limit: int) -> list[Job]:
        """The youngest first."""
        return self.store.recent(limit)

    def delete(self, job_id: str) -> bool:
        """Remove a job with all its files, whatever its state; False if there is none of this id."""
        if not self.store.remove(job_id):
            return False
        self.dispatcher.cancel(job_id)
        self.storage.remove(job_id)
        return True

    def result(self, job_id: str, name: str) -> tuple[Path, ResultFile] | None:
        """A file that a job has come to; None if there is none of this name."""
        job = self.store.get(job_id)
        found = next((file for file in job.results if file.name == name), None) if job else None
        if found is None:
            return None
        path = self.storage.results_folder(job_id) / found.name
        return (path, found) if path.is_file() else None

    def health(self) -> Health:
        """Whether there is a worker, and a queue to be read."""
        state, reason = self.dispatcher.state, self.dispatcher.reason
        queued = running = 0
        is_readable = True
        try:
            counts = self.store.counts()
            queued, running = counts["queued"], counts["running"]
        except LunaError:
            is_readable, reason = False, "the queue of jobs cannot be read"
        return Health(
            status="ok" if is_readable and state != "failing" else "failing",
            version=__version__,
            worker=state,
            queued=queued,
            running=running,
            reason=reason and reason.replace(str(self.storage.folder), "the server's folder"),
        )

    def expire(self) -> None:
        """Remove the jobs that ended `keep_seconds` ago or earlier, with their results."""
        for job_id in self.store.expired():
            self.store.remove(job_id)
            self.storage.remove(job_id)

    def _take_up(self) -> None:
        """Called while nothing else is at work in the folder."""
        self.store.recover("the server ended in the midst of it")
        self.storage.sweep(self.store.ids())
        for job_id in self.store.ids("done", "failed"):
            self.storage.drop_scan(job_id)
        for job_id in self.store.ids("queued", "failed"):
            self.storage.drop_results(job_id)

    @contextmanager
    def _expiring(self) -> Iterator[None]:
        """A thread that removes what has expired, now and then."""
        is_over = threading.Event()

        def work() -> None:
            while True:
                try:
                    self.expire()
                except LunaError as error:  # a full disk, say: the next time will do
                    _logger.warning("expired jobs cannot be removed: %s", error)
                if is_over.wait(EXPIRE_SECONDS):
                    return

        thread = threading.Thread(target=work, name="expiry", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _check_size(self, size: int) -> None:
        if size > self.settings.max_upload_bytes:
            raise Refused.too_large(self.settings.max_upload_bytes)
        free = self.storage.free_bytes()
        if size + SPARE_BYTES > free:
            raise Refused.no_room()

    def _take_place(self, job_id: str) -> None:
        with self._lock:
            before = self.store.counts()["queued"] + len(self._uploading)
            if before < self.settings.max_waiting:
                self._uploading.add(job_id)
                return
        seconds = mean(self.store.recent_seconds() or [_GUESSED_SECONDS]) * before
        raise Refused(
            429,
            f"{before} jobs wait already; expected fewer than {self.settings.max_waiting}: try again later",
            retry_after_s=round(min(max(seconds, 1), LONGEST_RETRY_S)),
        )

    def _queue(self, job_id: str, name: str, scan: str, options: Options) -> Job:
        """Its place becomes that of the job; at no moment it has both or none."""
        with self._lock:
            job = self.store.add(job_id, name, scan, options)
            self._uploading.discard(job_id)
        self.dispatcher.wake()
        return job
