"""What has become of the studies of a server, on disk: it survives whatever ends the watch."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from p2ch_luna.errors import LunaError

State = Literal["earlier", "seen", "diagnosed", "stored", "left", "failed"]
VERSION = 1  # of the tables
_TABLES = """
create table server (url text not null);
create table studies (
    uid text primary key,
    state text not null,  -- earlier: there before the watch; seen: its diagnosis was begun
    reason text,          -- why it was left or failed
    attempts integer not null default 0,
    changed real not null
);
"""


class Entry(NamedTuple):
    """What is recorded of a study."""

    state: State
    reason: str | None
    attempts: int  # how often its diagnosis was begun


class Record:
    """The studies of one server. Every change is on disk when its call returns.

    path: of the database; made if it is not there. Raises LunaError for that of another server.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path, self._url = path, url
        with self._connected() as db:
            version = db.execute("pragma user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise LunaError(f"{path}: of version {version}; expected {VERSION}: name another folder")
            found = db.execute("select url from server").fetchone() if version else None
            if found and found[0] != url:
                raise LunaError(f"{path}: is of the server {found[0]}, not {url}; name another folder")
            self.is_new = found is None

    def begin(self, earlier: Iterable[str]) -> None:
        """Note which studies were there before the watch; the record is no longer new."""
        rows = [(uid, "earlier", time.time()) for uid in earlier]
        with self._connected() as db:
            db.executescript(f"begin immediate; {_TABLES} pragma user_version = {VERSION}; ")
            db.execute("insert into server (url) values (?)", (self._url,))
            db.executemany("insert into studies (uid, state, changed) values (?, ?, ?)", rows)
            db.execute("commit")
        self.is_new = False

    def get(self, uid: str) -> Entry | None:
        """What is known of a study; None: nothing."""
        query = "select state, reason, attempts from studies where uid = ?"
        with self._connected() as db:
            row = db.execute(query, (uid,)).fetchone()
        return None if row is None else Entry(*row)

    def of(self, *states: State) -> set[str]:
        """UIDs of the studies in these states."""
        marks = ", ".join("?" * len(states))
        with self._connected() as db:
            return {uid for (uid,) in db.execute(f"select uid from studies where state in ({marks})", states)}

    def attempt(self, uid: str, step: int = 1) -> int:
        """A diagnosis begins, or with -1 was given up in good order; how many there were."""
        with self._connected() as db:
            ((attempts,),) = db.execute(
                "insert into studies (uid, state, attempts, changed) values (?, 'seen', ?, ?) "
                "on conflict (uid) do update set state = 'seen', changed = excluded.changed, "
                "attempts = attempts + excluded.attempts returning attempts",
                (uid, step, time.time()),
            )
        return int(attempts)

    def put(self, uid: str, state: State, reason: str | None = None) -> None:
        """A study has come to another state."""
        with self._connected() as db:
            db.execute(
                "insert into studies (uid, state, reason, changed) values (?, ?, ?, ?) on conflict (uid) "
                "do update set state = excluded.state, reason = excluded.reason, changed = excluded.changed",
                (uid, state, reason, time.time()),
            )

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection in which each statement is a transaction. Raises LunaError where it cannot be used."""
        try:
            db = sqlite3.connect(self._path, isolation_level=None)
            try:
                db.execute("pragma synchronous = extra")  # nothing that is done is forgotten in a power cut
                yield db
            finally:
                db.close()
        except sqlite3.Error as error:
            wanted = "the record of a watch, and room on the disk"
            raise LunaError(f"{self._path}: {error}; expected {wanted}") from error
