"""A scan on its way in: written to disk piece by piece, and refused as soon as it is known to be none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.formats import HEAD_BYTES, suffix_of
from p2ch_luna.serve.jobs import MAX_NAME, Job, Options
from p2ch_luna.serve.storage import Storage

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
Enqueue = Callable[[str, str, str, Options], Job]  # a job's id, name, scan and options


class Refused(LunaError):  # noqa: N818
    """What a client asks for is not done. status: of HTTP.    retry_after_s: when it may be done."""

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after_s = status, retry_after_s

    @classmethod
    def too_large(cls, limit: int) -> Refused:
        """An upload of more than `limit` bytes."""
        return cls(413, f"the upload is too large; expected at most {limit} bytes ({limit / 1e9:.3g} GB)")

    @classmethod
    def no_room(cls) -> Refused:
        """The disk of the server is full, or nearly so."""
        return cls(507, "the server has too little room on its disk; delete jobs, or try again later")


class Upload:
    """One scan that is being uploaded; a context manager, which removes what has not been committed.

    enqueue: puts the job of a whole upload into the queue.
    """

    def __init__(self, job_id: str, storage: Storage, max_bytes: int, enqueue: Enqueue) -> None:
        self._job_id, self._storage, self._max_bytes, self._enqueue = job_id, storage, max_bytes, enqueue
        self._head = b""
        self._size = 0
        self._is_queued = False
        with _disk_full_refused():  # unbuffered: else the last bytes meet the full disk at some later time
            self._file = storage.new_upload(job_id).open("xb", buffering=0)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._is_queued:
            self._storage.remove(self._job_id)

    def write(self, chunk: bytes) -> None:
        """Add to it. Raises Refused: 413 too large, 400 no scan, 507 the disk is full."""
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise Refused.too_large(self._max_bytes)
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._suffix()
        rest = memoryview(chunk)
        with _disk_full_refused():
            while rest:
                rest = rest[self._file.write(rest) :]

    def commit(self, name: str, options: Options) -> Job:
        """All of it is there: queue its job. name: what the client calls the scan; it is shown, no more.

        Raises Refused: 400 no scan, 507 the disk is full; another LunaError if the queue cannot be written.
        """
        suffix = self._suffix()
        with _disk_full_refused():
            os.fsync(self._file.fileno())
            scan = self._storage.adopt(self._job_id, suffix)
        job = self._enqueue(self._job_id, tidy(name), scan, options)
        self._is_queued = True
        return job

    def _suffix(self) -> str:
        try:
            return suffix_of(self._head)
        except LunaError as error:
            raise Refused(400, str(error)) from error


def tidy(name: str) -> str:
    """A name in one line that can be shown anywhere: what is not printable is a space, and the end is cut."""
    shown = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(shown.split())[:MAX_NAME].strip() or "scan"


@contextmanager
def _disk_full_refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_IS_FULL:
            raise Refused.no_room() from error
        raise
