"""Prepared scans on disk, so that a second run need not prepare them again."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import platformdirs

from p2ch_luna.errors import LunaError
from p2ch_luna.io.file_locks import claiming, new_locked_file, remove_unclaimed
from p2ch_luna.io.scan_file import DamagedEntry, Storage, StoredScan, open_scan, verify_scan
from p2ch_luna.io.scan_index import ADVICE, DATABASE, FILES, NewFile, Row, ScanIndex
from p2ch_luna.io.scan_keys import content_digest, digest_of, recipe_digest, scan_key
from p2ch_luna.io.scan_packing import PackedScan, pack_scan
from p2ch_luna.lungs import PreparedCt

__all__ = [
    "DamagedEntry",
    "Entry",
    "ScanCache",
    "Storage",
    "StoredScan",
    "content_digest",
    "digest_of",
    "in_mb",
    "open_scan",
    "recipe_digest",
    "scan_key",
]

SIZE_LIMIT = 64 * 10**9  # bytes: all of LUNA16, four times in blosc2, once raw
RESERVE_BYTES = 2**28  # left free on the disk
CLAIMS = "claims"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A scan in the cache."""

    key: str
    series_uid: str
    path: Path
    storage: Storage
    n_bytes: int
    stored_at: datetime

    @property
    def is_whole(self) -> bool:
        """Whether its file is there in its full length; what is in it is not read."""
        try:
            return self.path.stat().st_size == self.n_bytes
        except OSError:
            return False


class ScanCache:
    """Prepared scans by key, in a private folder (0700) named `scans`.

    folder: where to make that; None: in the user's cache folder. Not on a network file system, which
    breaks locks.    storage: how new scans are kept; "raw" takes three times the room and is read faster.
    size_limit: bytes; what was stored longest ago makes room.

    Several processes may use one at a time; it can be pickled and used after a fork. A folder that can only
    be read is read. LunaError is raised where it cannot be read or, by what stores or removes, written.
    """

    def __init__(
        self, folder: Path | None = None, storage: Storage = "blosc2", size_limit: int = SIZE_LIMIT
    ) -> None:
        if storage not in get_args(Storage):
            raise LunaError(f"storage {storage!r}; expected one of {', '.join(get_args(Storage))}")
        self.folder = (folder or Path(platformdirs.user_cache_dir("p2ch-luna"))) / "scans"
        self.storage = storage
        self.size_limit = size_limit
        self._is_full = False
        self._index = ScanIndex(self.folder)
        try:
            self._make_folders()
        except OSError as error:  # what can only be read is of use too; what has to write will say so
            if not self.folder.is_dir() or not os.access(self.folder, os.R_OK | os.X_OK):
                raise LunaError(
                    f"{self.folder}: {error.strerror}; expected a folder to keep scans in"
                ) from error

    def _make_folders(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = sorted(path.name for path in self.folder.iterdir())
        strange = [n for n in names if n not in (FILES, CLAIMS) and not n.startswith(DATABASE)]
        if strange and DATABASE not in names:  # the first that stores makes it, after these two folders
            raise LunaError(
                f"{self.folder}: holds {strange[0]!r}, so it is no cache; expected that or an empty folder: "
                "give another with --cache"
            )
        mode = stat.S_IMODE(self.folder.stat().st_mode)
        if mode & 0o077:
            self.folder.chmod(mode & 0o700)
        for name in (FILES, CLAIMS):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    def get(self, key: str) -> StoredScan | None:
        """The scan stored under `key`; None if there is none.

        A damaged one is removed, with a warning in the log, and counts as none.
        """
        row = self._index.find(key)
        while row is not None:
            try:
                return open_scan(self._path_of(row))
            except DamagedEntry as error:
                reason = str(error)
            except FileNotFoundError:
                reason = "its file is not there"
            newer = self._index.find(key)
            if newer == row:
                self._drop(row, reason)
                return None
            row = newer  # another process has replaced or removed it
        return None

    def _path_of(self, row: Row) -> Path:
        if not row.name:
            raise DamagedEntry("its row names no file of this cache")
        return self.folder / row.name

    def _drop(self, row: Row, reason: str) -> None:
        log.warning("%s: entry %s is damaged: %s; removed, to be made again", self.folder, row.key, reason)
        try:
            self._index.remove(row)
        except LunaError as error:
            log.warning("%s", error)

    def put(self, key: str, prepared: PreparedCt) -> StoredScan:
        """Store a scan under `key`, whole or not at all, and open it; one that was there is replaced.

        Raises LunaError where its disk has not the room, or the cache may not become as large as the scan.
        """
        packed = pack_scan(prepared, self.storage)
        self._check_room(packed.n_bytes)
        self._sweep("*.part")
        stored = self._write(key, packed, f"{self.storage} {prepared.ct.series_uid}")
        self._evict(keep=key)
        return stored

    def _write(self, key: str, packed: PackedScan, label: str) -> StoredScan:
        """A killed process leaves at most a file that is not in the index and that no one has locked."""
        name = f"{FILES}/{secrets.token_hex(16)}.scan"
        path = self.folder / name
        part = path.with_suffix(".part")
        with self._told():
            try:
                with new_locked_file(part) as file:
                    packed.write(file)
                    file.flush()
                    part.rename(path)
                    stored = open_scan(path)  # before another process can replace it
                    self._index.add(key, NewFile(name, packed.n_bytes), label)
            except BaseException:
                for unfinished in (part, path):
                    unfinished.unlink(missing_ok=True)
                raise
        return stored

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell as a LunaError what goes wrong when something is written."""
        try:
            yield
        except OSError as error:
            raise LunaError(f"{self.folder}: cannot be written: {error.strerror}; {ADVICE}") from error
        except DamagedEntry as error:
            raise LunaError(
                f"{self.folder}: a new file is damaged: {error}; expected a sound disk"
            ) from error

    def _check_room(self, n_bytes: int) -> None:
        if n_bytes > self.size_limit:
            raise LunaError(
                f"{self.folder}: may grow to {in_mb(self.size_limit)}, one scan takes {in_mb(n_bytes)}; "
                "expected a limit above that (--cache-size)"
            )
        free, wanted = shutil.disk_usage(self.folder).free, n_bytes + RESERVE_BYTES
        if free < wanted:
            raise LunaError(
                f"{self.folder}: {in_mb(free)} free on its disk, {in_mb(wanted)} wanted; "
                "make room, or give another folder with --cache"
            )

    def _evict(self, keep: str) -> None:
        rows = self._index.rows()
        excess = sum(row.n_bytes for row in rows) - self.size_limit
        for row in rows:
            if excess <= 0:
                return
            if row.key != keep and self._index.remove(row):
                excess -= row.n_bytes
                if not self._is_full:  # told once: every later scan will take another's place
                    said = "%s: full at %s: older scans make room; --cache-size lets it grow further"
                    log.warning(said, self.folder, in_mb(self.size_limit))
                self._is_full = True

    def get_or_make(self, key: str, make: Callable[[], PreparedCt]) -> StoredScan:
        """The scan stored under `key`; else what `make` returns, stored for the next time."""
        stored = self.get(key)
        if stored is not None:
            return stored
        self._check_room(0)
        if not os.access(self.folder, os.W_OK):  # told before the work
            raise LunaError(f"{self.folder}: can only be read and lacks a scan; {ADVICE}")
        return self.put(key, make())

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the work on `key` is ours until the block ends: true in one process at a time.

        It does not wait. A killed process loses its claims.
        """
        name = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        with ExitStack() as claims:
            with self._told():
                is_ours = claims.enter_context(claiming(self.folder / CLAIMS / f"{name}.lock"))
            yield is_ours

    def note(self, name: str) -> str | None:
        """The short text kept under a name, beside the scans."""
        return self._index.text(name)

    def set_note(self, name: str, text: str) -> None:
        """Keep a short text under a name; it stays when scans make room."""
        self._index.set_text(name, text)

    def entries(self) -> list[Entry]:
        """All scans, what was stored longest ago first; no file is opened."""
        return [
            Entry(
                row.key,
                row.label.split(" ", 1)[1],
                self.folder / row.name,
                storage,
                row.n_bytes,
                datetime.fromtimestamp(row.stored_at, UTC),
            )
            for row in self._index.rows()
            for storage in get_args(Storage)
            if row.name and row.label.startswith(f"{storage} ")
        ]

    def verify(self) -> list[str]:
        """Read every scan, remove those that are damaged and what killed processes left; the damaged keys."""
        damaged = []
        for row in self._index.rows():
            try:
                verify_scan(self._path_of(row))
            except (DamagedEntry, FileNotFoundError) as error:
                if self._index.remove(row):
                    log.info("%s: entry %s removed: %s", self.folder, row.key, error)
                    damaged.append(row.key)
        self._sweep("*")
        with self._told():
            for claim in (self.folder / CLAIMS).glob("*"):
                remove_unclaimed(claim)
        return damaged

    def clear(self) -> int:
        """Remove all scans and notes; how many scans there were. A scan that is being written stays."""
        count = len(list((self.folder / FILES).glob("*.scan")))
        self._index.clear()
        self._sweep("*")
        return count

    def _sweep(self, pattern: str) -> None:
        """Remove files that neither the index nor a living process knows."""
        with self._told():
            for path in (self.folder / FILES).glob(pattern):
                remove_unclaimed(path, partial(self._is_waste, path))

    def _is_waste(self, path: Path) -> bool:
        return not self._index.names(f"{FILES}/{path.name}")


def in_mb(n_bytes: int) -> str:
    """A size for a person."""
    return f"{n_bytes / 1e6:,.0f} MB"
