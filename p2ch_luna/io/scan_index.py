"""Which file of a cache holds which scan, and short texts: a diskcache that never meets a pickle."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW

from p2ch_luna.errors import LunaError

DATABASE = DBNAME  # beside it SQLite keeps files of its own
FILES = "files"
ADVICE = "expected a cache that can be read and written (make room, or give another folder with --cache)"
_OURS = re.compile(rf"{FILES}/[0-9a-f]{{32}}\.scan")
_OLD = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")  # of versions before this format
_TEXT = "text:"  # before the name of a text, in keys
_SETTINGS = {"cull_limit": 0, "eviction_policy": "none"}  # it would not spare what was just written
_COLUMNS = "SELECT key, tag, size, mode, filename, value, store_time FROM Cache WHERE raw = 1"


class NewFile(NamedTuple):
    """A file that is written already."""

    name: str  # below the cache's folder
    n_bytes: int


class Row(NamedTuple):
    """A file in the index."""

    key: str
    label: str  # as it was given with the file
    n_bytes: int
    name: str  # below the cache's folder; empty where what is noted is no file of ours
    stored_at: float  # seconds since 1970


class FilesDisk(diskcache.Disk):  # type: ignore[misc]
    """Keeps names of files and short texts under text keys: what it finds is never unpickled.

    diskcache's own would run what a stranger left in the folder (CVE-2025-69872).
    """

    def put(self, key: str) -> tuple[str, bool]:
        """The key as the database holds it."""
        return key, True

    def get(self, key: str, raw: bool) -> str:  # noqa: ARG002
        """The key as it was given, whatever its row says of a pickle."""
        return key

    def store(self, value: object, read: bool, key: str) -> tuple[int, int, str | None, str | None]:
        """Size, mode, name and value of its row. Raises TypeError for what the base class would pickle."""
        if isinstance(value, NewFile) and not read:
            return value.n_bytes, MODE_BINARY, value.name, None
        if type(value) is str and not read:
            return 0, MODE_RAW, None, value
        raise TypeError(f"entry {key}: got {type(value).__name__}, expected the name of a file or a text")

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> str:  # noqa: ARG002
        """The name or the text; of a row that this class did not write, nothing."""
        found = filename if mode == MODE_BINARY else value if mode == MODE_RAW else None
        return found if type(found) is str else ""

    def remove(self, file_path: str) -> None:
        """Delete a file of the cache, and nothing else, whatever its row names."""
        if _OURS.fullmatch(file_path) or _OLD.fullmatch(file_path):
            Path(self._directory, file_path).unlink(missing_ok=True)


@dataclass(frozen=True)
class ScanIndex:
    """The database of the cache in `folder`. LunaError is raised where it cannot be read or written.

    No connection outlives a call, so an index can be pickled and used after a fork. Reading writes nothing,
    so it works in a folder that can only be read.
    """

    folder: Path

    def find(self, key: str) -> Row | None:
        """The file stored under a key."""
        rows = self._select(f"{_COLUMNS} AND key = ?", key)
        return _row(rows[0]) if rows else None

    def rows(self) -> list[Row]:
        """All files, what was stored longest ago first."""
        found = self._select(f"{_COLUMNS} AND typeof(key) = 'text' ORDER BY store_time")
        return [_row(row) for row in found if not row[0].startswith(_TEXT)]

    def names(self, name: str) -> bool:
        """Whether a file of this name is in the index."""
        return bool(self._select("SELECT 1 FROM Cache WHERE filename = ?", name))

    def add(self, key: str, file: NewFile, label: str) -> None:
        """Note a file; the one that was stored under the key is deleted."""
        with self._writing() as cache:
            cache.set(key, file, tag=label)

    def remove(self, row: Row) -> bool:
        """Delete an entry and its file; False where another process has changed or removed it."""
        with self._writing() as cache, cache.transact():
            return self.find(row.key) == row and bool(cache.delete(row.key))

    def clear(self) -> None:
        """Forget all, texts too; a database that is none is deleted."""
        try:
            with self._writing() as cache:
                cache.clear()
        except LunaError as error:
            if type(error.__cause__) is not sqlite3.DatabaseError:  # its subclasses are other troubles
                raise
            for suffix in ("", "-wal", "-shm"):
                (self.folder / f"{DBNAME}{suffix}").unlink(missing_ok=True)

    def text(self, name: str) -> str | None:
        """The text kept under a name."""
        rows = self._select(f"{_COLUMNS} AND key = ?", _TEXT + name)
        value = rows[0][5] if rows and rows[0][3] == MODE_RAW else None
        return value if isinstance(value, str) else None

    def set_text(self, name: str, text: str) -> None:
        """Keep a short text under a name."""
        with self._writing() as cache:
            cache.set(_TEXT + name, text)

    def _select(self, query: str, *values: str) -> list[Any]:
        """Read with SQLite itself: a tenth of the time of diskcache, which writes when it opens."""
        database = self.folder / DBNAME
        with self._told():
            if not database.exists():
                return []
            try:
                return _query(database, "mode=ro", query, values)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # another process is making the database now
                    return []
                if not _is_only_readable(database, error):
                    raise
                # a folder that cannot be written to has no place for locks
                return _query(database, "immutable=1", query, values)

    @contextmanager
    def _writing(self) -> Iterator[diskcache.Cache]:
        with self._told(), diskcache.Cache(str(self.folder), disk=FilesDisk, **_SETTINGS) as cache:
            yield cache

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except diskcache.Timeout as error:
            raise LunaError(f"{self.folder}: another process keeps it locked; {ADVICE}") from error
        except (OSError, sqlite3.Error) as error:
            raise LunaError(f"{self.folder}: {error}; {ADVICE}") from error


def _is_only_readable(database: Path, error: sqlite3.OperationalError) -> bool:
    """Whether a query failed because nothing can be written; where others may write, their locks count."""
    if "locked" in str(error):
        return False
    is_told = any(words in str(error) for words in ("readonly", "unable to open"))
    return is_told or not all(os.access(path, os.W_OK) for path in (database, database.parent))


def _query(database: Path, how: str, query: str, values: tuple[str, ...]) -> list[Any]:
    address = f"{database.absolute().as_uri()}?{how}"
    with closing(sqlite3.connect(address, uri=True, timeout=60)) as connection:
        return connection.execute(query, values).fetchall()


def _row(columns: tuple[str, object, int, int, object, object, float]) -> Row:
    key, label, n_bytes, mode, name, _, stored_at = columns
    is_ours = mode == MODE_BINARY and isinstance(name, str) and _OURS.fullmatch(name)
    return Row(key, str(label), n_bytes, str(name) if is_ours else "", stored_at)
