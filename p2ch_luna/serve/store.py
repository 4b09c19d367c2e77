"""The queue of jobs on disk, in SQLite: it survives restarts, and a crash in the midst of a job."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import STATES, Claim, Job, Options, Outcome, Stage, State

MAX_ATTEMPTS = 2  # a job in whose midst the process ended is tried once more
WAIT_SECONDS = 10.0  # for another connection that writes
VERSION = 1  # of the tables

_TABLES = """
create table if not exists jobs (
    number integer primary key autoincrement,  -- the order of the queue
    id text not null unique,
    name text not null,
    scan text not null,
    options text not null,
    state text not null,
    attempts integer not null default 0,
    stages text not null default '[]',
    created real not null,
    started real,
    ended real,
    outcome text not null default '{}'
);
create index if not exists jobs_by_state on jobs (state, number);
"""
_JOBS = """
select jobs.*, waiting.position from jobs left join
    (select number, row_number() over (order by number) as position from jobs where state = 'queued')
    as waiting
    using (number)
"""


class JobStore:
    """All jobs. May be used from several threads and processes: each call has a connection of its own.

    path: of the database; made if it is not there, for its owner alone.    clock: the seconds since 1970.
    When a job expires is for others to say: in what is read here `expires` is None.
    Every method raises LunaError where the database cannot be used. On a full disk jobs can still be read,
    ended and removed: nothing is written beside the database that does not have its place already.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        with self._connected() as db:
            path.chmod(0o600)  # what a scan is called may say whose it is
            version = db.execute("pragma user_version").fetchone()[0]
            if version == 0:
                db.executescript(f"begin immediate; {_TABLES} pragma user_version = {VERSION}; commit;")
            elif version != VERSION:
                raise LunaError(f"{path}: jobs of version {version}; expected {VERSION}: name another folder")

    def add(self, job_id: str, name: str, scan: str, options: Options) -> Job:
        """Put a job at the end of the queue. scan: the name of its file. What fails has not been added."""
        values = (job_id, name, scan, options.model_dump_json(), "queued", self._clock())
        with self._connected() as db:
            db.execute("begin immediate")
            db.execute(
                "insert into jobs (id, name, scan, options, state, created) values (?, ?, ?, ?, ?, ?)", values
            )
            job = _job(db.execute(f"{_JOBS} where id = ?", (job_id,)).fetchone())
            db.execute("commit")
            return job

    def get(self, job_id: str) -> Job | None:
        """The job, if there is one of this id."""
        with self._connected() as db:
            row = db.execute(f"{_JOBS} where id = ?", (job_id,)).fetchone()
            return None if row is None else _job(row)

    def recent(self, limit: int) -> list[Job]:
        """The youngest first."""
        with self._connected() as db:
            rows = db.execute(f"{_JOBS} order by number desc limit ?", (limit,)).fetchall()
            return [_job(row) for row in rows]

    def claim(self) -> Claim | None:
        """Begin the job that has waited longest; None if none waits."""
        with self._connected() as db:
            row = db.execute(
                "update jobs set state = 'running', attempts = attempts + 1, started = ?, stages = '[]' "
                "where number = (select min(number) from jobs where state = 'queued') returning *",
                (self._clock(),),
            ).fetchone()
        if row is None:
            return None
        options = Options.model_validate_json(row["options"])
        return Claim(row["id"], row["attempts"], row["name"], row["scan"], options)

    def tell(self, claim: Claim, stages: Sequence[Stage]) -> None:
        """How far an attempt is; nothing if it is over by now."""
        told = json.dumps([stage.model_dump(mode="json") for stage in stages])
        self._change(claim, "stages = ?", told)

    def end(self, claim: Claim, outcome: Outcome) -> bool:
        """An attempt has come to results, or to an error that will stay; False if it is over by now."""
        state = "done" if outcome.error is None else "failed"
        return self._change(
            claim, "state = ?, ended = ?, outcome = ?", state, self._clock(), outcome.model_dump_json()
        )

    def interrupted(self, claim: Claim, reason: str) -> State | None:
        """An attempt has ended without an outcome: the job waits again, before all others, or has failed.

        Returns its state; None if the attempt is over by now.
        """
        if claim.attempt < MAX_ATTEMPTS:
            return "queued" if self._change(claim, "state = 'queued'") else None
        is_ended = self.end(claim, Outcome(error=f"{reason}; it was tried {claim.attempt} times"))
        return "failed" if is_ended else None

    def give_back(self, claim: Claim) -> None:
        """The server stops in good order: the job waits again as if it had not been begun."""
        self._change(claim, "state = 'queued', attempts = attempts - 1, started = null, stages = '[]'")

    def recover(self, reason: str) -> list[str]:
        """Take up after a crash of the server: `interrupted` for all that were running; their ids.

        Called before any job is claimed, by the one server there is.
        """
        with self._connected() as db:
            rows = db.execute("select * from jobs where state = 'running'").fetchall()
        for row in rows:
            self.interrupted(Claim(row["id"], row["attempts"], row["name"], row["scan"], Options()), reason)
        return [row["id"] for row in rows]

    def remove(self, job_id: str) -> bool:
        """Forget a job, whatever its state; False if there is none of this id."""
        with self._connected() as db:
            return db.execute("delete from jobs where id = ?", (job_id,)).rowcount > 0

    def ended_by(self, seconds: float) -> list[str]:
        """Ids of the jobs that ended at this time or earlier, in seconds since 1970."""
        with self._connected() as db:
            rows = db.execute("select id from jobs where ended <= ?", (seconds,)).fetchall()
            return [row["id"] for row in rows]

    def ids(self, *states: State) -> set[str]:
        """Of the jobs in these states; of all if none is named."""
        wanted = states or STATES
        marks = ", ".join("?" * len(wanted))
        with self._connected() as db:
            rows = db.execute(f"select id from jobs where state in ({marks})", wanted).fetchall()
            return {row["id"] for row in rows}

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        with self._connected() as db:
            found = dict(db.execute("select state, count(*) from jobs group by state").fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def recent_seconds(self, limit: int = 10) -> list[float]:
        """How long the last jobs took that came to results."""
        with self._connected() as db:
            rows = db.execute(
                "select ended - started from jobs where state = 'done' order by ended desc limit ?", (limit,)
            )
            return [row[0] for row in rows]

    def _change(self, claim: Claim, what: str, *values: object) -> bool:
        """Change the job of an attempt, if that is the one under way."""
        with self._connected() as db:
            changed = db.execute(
                f"update jobs set {what} where id = ? and state = 'running' and attempts = ?",
                (*values, claim.job_id, claim.attempt),
            )
            return changed.rowcount > 0

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection in which each statement is a transaction. Raises LunaError where it cannot be used.

        The journal is kept when it is not needed, so that a full disk has room for it. With a write-ahead log
        nothing could even be read then: each first connection makes two files.
        """
        try:
            db = sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise LunaError(f"{self._path}: cannot be opened: {error}; expected the queue of jobs") from error
        try:
            db.row_factory = sqlite3.Row
            db.execute("pragma journal_mode = persist")
            yield db
        except sqlite3.Error as error:
            raise LunaError(
                f"{self._path}: {error}; expected the queue of jobs, and room on the disk"
            ) from error
        finally:
            db.close()


def _job(row: sqlite3.Row) -> Job:
    """As clients see it. row: of `_JOBS`."""
    return Job(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        position=row["position"],
        attempts=row["attempts"],
        stages=tuple(Stage(**stage) for stage in json.loads(row["stages"])),
        created=_utc(row["created"]),
        started=None if row["started"] is None else _utc(row["started"]),
        ended=None if row["ended"] is None else _utc(row["ended"]),
        **dict(Outcome.model_validate_json(row["outcome"])),
    )


def _utc(seconds: Any) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
