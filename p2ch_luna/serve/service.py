"""What the server does, without HTTP: it takes scans in, keeps their jobs, and hands out results."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from p2ch_luna import __version__
from p2ch_luna.errors import LunaError, told
from p2ch_luna.frozen import Frozen
from p2ch_luna.serve import worker
from p2ch_luna.serve.dispatcher import Dispatcher, WorkerState
from p2ch_luna.serve.jobs import Diagnose, Job, Options, ResultFile, State
from p2ch_luna.serve.refused import Refused
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore
from p2ch_luna.serve.uploads import Upload
from p2ch_luna.serve.worker import WorkerSettings

if TYPE_CHECKING:
    from p2ch_luna.inference.runtime import Runtime  # the networks' libraries are for the worker alone

__all__ = ["Health", "Refused", "Service", "Settings", "Upload"]

LONGEST_KEEP_S = 1e5 * 3600  # eleven years
EXPIRE_SECONDS = (1.0, 3600.0)  # between two looks for what has expired: the time it is kept, within these
LONGEST_RETRY_S = 600
_GUESSED_SECONDS = 10.0  # of a job, before the first has come to results
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How to serve.

    keep_seconds: from the end of a job until it is removed with its results.
    job_seconds: an attempt may take; then the job has failed.    threads: None: as many as torch takes.
    device: "auto": CUDA if the worker finds it, else the CPU.
    token: None: whoever reaches the server may use it.
    """

    folder: Path
    max_upload_bytes: int = 2_000_000_000
    max_waiting: int = 16  # jobs that are queued or being uploaded
    keep_seconds: float = 7 * 86400
    job_seconds: float = 1800.0
    device: str = "cpu"
    runtime: Runtime = "torch"
    threads: int | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.keep_seconds <= LONGEST_KEEP_S:
            raise LunaError(f"keep_seconds is {self.keep_seconds:g}; expected 0 to {LONGEST_KEEP_S:g}")


class Health(Frozen):
    """Whether jobs get done. reason: why not, or what is wrong otherwise."""

    status: Literal["ok", "failing"]
    version: str
    worker: WorkerState
    queued: int
    running: int
    reason: str | None = None


class Service:
    """All that a server holds. Its methods may be called from any thread.

    A `Refused` is for the client. Any other LunaError is for the log: it names places on the disk.
    begin: makes, in the worker process, what does a job there.
    on_end: may be set before the start; it is told the state of each job that ends, and the seconds of its
    last attempt.
    """

    on_end: Callable[[State, float], None] | None = None

    def __init__(
        self, settings: Settings, begin: Callable[[WorkerSettings], Diagnose] = worker.begin
    ) -> None:
        self.settings = settings
        self.storage = Storage(settings.folder)
        self.store = JobStore(self.storage.database)
        wanted = WorkerSettings(self.storage.folder, settings.device, settings.runtime, settings.threads)
        self.dispatcher = Dispatcher(
            self.store, self.storage, partial(begin, wanted), settings.job_seconds, self._tell_end
        )
        self._lock = threading.Lock()
        self._uploading: dict[str, Upload] = {}  # by the ids of their jobs: each has a place in the queue
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
        begun = self._in_state("running")
        self._running.close()
        for job_id in begun & self._in_state("queued"):
            _logger.info("job %s: waits again, for the next start", job_id)

    @contextmanager
    def admit(self, declared_bytes: int | None) -> Iterator[Upload]:
        """An upload, and its place in the queue until the block ends. What is not committed is removed.

        declared_bytes: its size as the client says; None: it does not.
        Raises Refused: 413 too large, 507 too little room on the disk, 429 too many jobs wait.
        """
        size, limit = declared_bytes or 0, self.settings.max_upload_bytes
        if size > limit:
            raise Refused.too_large(limit)
        upload = Upload(uuid4().hex, self.storage, limit, self._queue, size)
        self._take_place(upload)
        try:
            with upload:
                yield upload
        finally:
            with self._lock:
                self._uploading.pop(upload.job_id, None)

    def job(self, job_id: str) -> Job | None:
        """The job of this id, if it has not expired."""
        job = self.store.get(job_id)
        return None if job is None else self._kept(job)

    def jobs(self, limit: int) -> list[Job]:
        """The youngest first, without those that have expired."""
        return [job for job in map(self._kept, self.store.recent(limit)) if job is not None]

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        return self.store.counts()

    def free_bytes(self) -> int:
        """Of the disk with the scans and results."""
        return self.storage.free_bytes()

    def delete(self, job_id: str) -> bool:
        """Remove a job with all its files, whatever its state; False if there is none of this id."""
        if not self.store.remove(job_id):
            return False
        self.dispatcher.cancel(job_id)
        self.storage.remove(job_id)
        return True

    def result(self, job_id: str, name: str) -> tuple[Path, ResultFile] | None:
        """A file that a job has come to; None if there is none of this name."""
        job = self.job(job_id)
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
            counts = self.counts()
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
        for job_id in self.store.ended_by(time.time() - self.settings.keep_seconds):
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
        for job_id in self.store.ids("queued"):
            _logger.info("job %s: taken up again", job_id)

    def _in_state(self, state: State) -> set[str]:
        """Ids; none where the queue cannot be read, which is no reason not to end."""
        try:
            return self.store.ids(state)
        except LunaError:
            return set()

    @contextmanager
    def _expiring(self) -> Iterator[None]:
        """A thread that removes what has expired, now and then."""
        is_over = threading.Event()
        shortest, longest = EXPIRE_SECONDS
        pause = min(max(self.settings.keep_seconds, shortest), longest)

        def work() -> None:
            while True:
                try:
                    self.expire()
                except Exception as error:  # of any kind, a full disk say: the next time will do
                    reason = str(error) if isinstance(error, LunaError) else told(error)
                    _logger.warning("expired jobs cannot be removed: %s", reason)
                if is_over.wait(pause):
                    return

        thread = threading.Thread(target=work, name="expiry", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def _kept(self, job: Job) -> Job | None:
        """With the time when it expires; None if that has come."""
        if job.ended is None:
            return job
        expires = job.ended + timedelta(seconds=self.settings.keep_seconds)
        return job.model_copy(update={"expires": expires}) if expires > datetime.now(UTC) else None

    def _take_place(self, upload: Upload) -> None:
        with self._lock:
            if not self.storage.has_room(
                upload.to_come + sum(one.to_come for one in self._uploading.values())
            ):
                raise Refused.no_room()
            before = self.store.counts()["queued"] + len(self._uploading)
            if before < self.settings.max_waiting:
                self._uploading[upload.job_id] = upload
                return
        seconds = mean(self.store.recent_seconds() or [_GUESSED_SECONDS])  # until a place is free, not all
        raise Refused(
            429,
            f"{before} jobs wait already; expected fewer than {self.settings.max_waiting}: try again later",
            retry_after_s=round(min(max(seconds, 1), LONGEST_RETRY_S)),
        )

    def _queue(self, job_id: str, name: str, scan: str, options: Options) -> Job:
        """Its place becomes that of the job; at no moment it has both or none."""
        with self._lock:
            job = self.store.add(job_id, name, scan, options)
            self._uploading.pop(job_id, None)
        self.dispatcher.wake()
        return job

    def _tell_end(self, state: State, seconds: float) -> None:
        if self.on_end is not None:
            self.on_end(state, seconds)
