"""A scan on its way in: written to disk piece by piece, and refused as soon as it is known to be none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from p2ch_luna.errors import LunaError
from p2ch_luna.files import DISK_IS_FULL
from p2ch_luna.serve.formats import HEAD_BYTES, suffix_of
from p2ch_luna.serve.jobs import MAX_NAME, Job, Options
from p2ch_luna.serve.refused import Refused
from p2ch_luna.serve.storage import Storage

CHECK_BYTES = 16 << 20  # of an upload, after which the room on the disk is looked at again
Enqueue = Callable[[str, str, str, Options], Job]  # a job's id, name, scan and options


class Upload:
    """One scan that is being uploaded; a context manager, which removes what has not been committed.

    enqueue: puts the job of a whole upload into the queue.    declared_bytes: its size, where that is told.
    """

    def __init__(
        self, job_id: str, storage: Storage, max_bytes: int, enqueue: Enqueue, declared_bytes: int = 0
    ) -> None:
        self.job_id = job_id
        self._storage, self._max_bytes, self._enqueue = storage, max_bytes, enqueue
        self._declared_bytes = declared_bytes
        self._head = b""
        self._size = self._unchecked = 0
        self._is_queued = False

    @property
    def to_come(self) -> int:
        """Bytes that were declared and are not there yet."""
        return max(self._declared_bytes - self._size, 0)

    def __enter__(self) -> Upload:
        """Raises Refused: 507 the disk is full."""
        with _disk_full_refused():  # unbuffered: else the last bytes meet the full disk at some later time
            self._file = self._storage.new_upload(self.job_id).open("xb", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._is_queued:
            self._storage.remove(self.job_id)

    def write(self, chunk: bytes) -> None:
        """Add to it. Raises Refused: 413 too large, 400 no scan, 507 too little room is left."""
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
        self._check_room(len(chunk))

    def commit(self, name: str, options: Options) -> Job:
        """All of it is there: queue its job. name: what the client calls the scan; it is shown, no more.

        Raises Refused: 400 no scan, 507 the disk is full; another LunaError if the queue cannot be written.
        """
        suffix = self._suffix()
        with _disk_full_refused():
            os.fsync(self._file.fileno())
            scan = self._storage.adopt(self.job_id, suffix)
        job = self._enqueue(self.job_id, tidy(name), scan, options)
        self._is_queued = True
        return job

    def _check_room(self, written: int) -> None:
        """What was free when it began may have gone to others, and to more of it than was declared."""
        self._unchecked += written
        if self._unchecked >= CHECK_BYTES:
            self._unchecked = 0
            if not self._storage.has_room():
                raise Refused.no_room()

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
        if error.errno in DISK_IS_FULL:
            raise Refused.no_room() from error
        raise
