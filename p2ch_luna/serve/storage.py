"""The files of jobs on disk. No name in here comes from a client: ids and suffixes are the server's own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.io.file_locks import claiming
from p2ch_luna.serve.jobs import ID_PATTERN, Claim

SPARE_BYTES = 1 << 30  # of the disk, left to the results of the jobs that are there
_DATABASE, _LOCK = "jobs.sqlite", "lock"
_FOLDERS = ("jobs", "uploads", "tmp")


class Storage:
    """The folder of a server: its database, its jobs, its uploads in progress.

    folder: made if it is not there, readable to its owner alone, as are those in it.
    Raises LunaError where it cannot be made, or holds something else: files in it are removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_is_ours()
            for name in _FOLDERS:
                (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise LunaError(
                f"{folder}: cannot be made: {error.strerror}; expected a folder to write to"
            ) from error

    @property
    def database(self) -> Path:
        """The queue of jobs."""
        return self.folder / _DATABASE

    @property
    def tmp(self) -> Path:
        """For what a worker needs for a while."""
        return self.folder / "tmp"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The folder belongs to this server until the block ends. Raises LunaError if it is another's."""
        with ExitStack() as stack:
            try:
                is_ours = stack.enter_context(claiming(self.folder / _LOCK))
            except OSError as error:
                raise LunaError(f"{self.folder}: cannot be locked: {error.strerror}") from error
            if not is_ours:
                raise LunaError(f"{self.folder}: another server uses it; expected a folder of its own")
            yield

    def job_folder(self, job_id: str) -> Path:
        """All files of a job."""
        return self.folder / "jobs" / _checked(job_id)

    def scan_path(self, claim: Claim) -> Path:
        """The scan that was uploaded."""
        return self.job_folder(claim.job_id) / claim.scan

    def results_folder(self, job_id: str) -> Path:
        """What an attempt has written; not there if there is nothing."""
        return self.job_folder(job_id) / "results"

    def new_upload(self, job_id: str) -> Path:
        """The file to write an upload to; it is not there yet."""
        return self.folder / "uploads" / _checked(job_id)

    def adopt(self, job_id: str, suffix: str) -> str:
        """Make an upload the scan of its job; the name it has from then on. Raises OSError.

        The scan outlives a loss of power from then on, if its bytes did before.
        """
        folder = self.job_folder(job_id)
        folder.mkdir(mode=0o700)
        scan = self.new_upload(job_id).rename(folder / f"scan{suffix}")
        for holder in (folder, folder.parent):
            _sync(holder)
        return scan.name

    def drop_scan(self, job_id: str) -> None:
        """Remove the scan of a job that has ended, whatever its suffix."""
        for scan in self.job_folder(job_id).glob("scan.*"):
            _remove(scan)

    def drop_results(self, job_id: str) -> None:
        """Remove what an attempt has left: of one that was killed, half results."""
        _remove(self.results_folder(job_id))

    def remove(self, job_id: str) -> None:
        """All files of a job, its upload as well."""
        _remove(self.job_folder(job_id))
        _remove(self.new_upload(job_id))

    def sweep(self, known_ids: Collection[str]) -> None:
        """Remove what a killed server has left: uploads, temporary files, folders of no job.

        Called before there is an upload or an attempt.
        """
        for name in ("uploads", "tmp"):
            for path in (self.folder / name).iterdir():
                _remove(path)
        for path in (self.folder / "jobs").iterdir():
            if path.name not in known_ids:
                _remove(path)

    def free_bytes(self) -> int:
        """Of the disk."""
        return shutil.disk_usage(self.folder).free

    def has_room(self, to_come: int = 0) -> bool:
        """Whether so many bytes more leave `SPARE_BYTES` of the disk."""
        return self.free_bytes() >= to_come + SPARE_BYTES

    def _check_is_ours(self) -> None:
        if self.database.exists():
            return
        strange = sorted({path.name for path in self.folder.iterdir()} - {*_FOLDERS, _LOCK})
        if strange:
            raise LunaError(f"{self.folder}: holds {strange[0]!r}; expected a new or an empty folder")


def _checked(job_id: str) -> str:
    """Raises ValueError for what is no id, lest it becomes a path."""
    if not re.fullmatch(ID_PATTERN, job_id):
        raise ValueError("not the id of a job")
    return job_id


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk itself."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """A file or a folder with all that is in it; what cannot be removed stays for the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
