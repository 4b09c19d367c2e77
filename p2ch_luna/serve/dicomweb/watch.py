"""Follow a DICOMweb server: every new chest CT is diagnosed, once, and the findings stored beside it."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from p2ch_luna.errors import LunaError
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io.file_locks import claiming
from p2ch_luna.report.outputs import REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.client import DeniedError, Series, Server, UnreachableError
from p2ch_luna.serve.dicomweb.record import Record, State
from p2ch_luna.serve.dicomweb.study import (
    Diagnose,
    Study,
    diagnosed,
    fetched,
    find_study,
    is_reported,
    store,
)

RECORD, LOCK, RESULTS, TEMPORARY = "watch.sqlite", "watch.lock", "results", "tmp"
LONGEST_PAUSE_SECONDS = 600.0
MAX_ATTEMPTS = 2  # a study in whose diagnosis the process ended is tried once more
_ENDED: tuple[State, ...] = ("stored", "left", "failed")
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)


class _Trouble(NamedTuple):
    """A study for which the server did not answer."""

    times: int
    until: float  # by the clock: it is left alone


@dataclass
class Watch:
    """Who follows a server.

    folder: of the record and the results; see `watching`.    diagnose: of fetched images.
    tell: a line about each study.    study_date: only these are looked at; as `Server.studies` takes it.
    interval: seconds between two looks.    existing: studies that were there before the first look too.
    """

    server: Server
    folder: Path
    diagnose: Diagnose
    tell: Callable[[str], None]
    progress: Progress
    study_date: str | None = None
    interval: float = 30.0
    existing: bool = False
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _counts: dict[str, tuple[Series, ...]] = field(default_factory=dict)  # of CT series, at the last look
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.record = Record(self.folder / RECORD, self.server.url)

    def run(self, once: bool = False) -> None:
        """Look again and again. once: until nothing that is there is left to do.

        Raises LunaError where going on is of no use, and with `once` where the server does not answer.
        """
        failures = 0
        while True:
            try:
                is_more_to_come = self.look()
                failures = 0
            except UnreachableError as error:
                if once:
                    raise
                failures += 1
                is_more_to_come = True
                log.warning("%s; another look in %g s", error, self._pause(failures))
            if once and not is_more_to_come:
                return
            self.sleep(self._pause(failures))

    def look(self) -> bool:
        """Do what can be done now; whether a study is there that cannot yet be.

        Raises UnreachableError where the server does not answer.
        """
        listed = self.server.studies(self.study_date)
        if self.record.is_new:
            self.record.begin(listed)
            self.tell(f"{self.server.url}: studies with CT that are there already: {len(listed)}")
        ended = self.record.of(*_ENDED, *(() if self.existing else ("earlier",)))
        waiting = [uid for uid in dict.fromkeys((*listed, *self.record.of("diagnosed"))) if uid not in ended]
        self._counts = {uid: self._counts[uid] for uid in waiting if uid in self._counts}
        done = [self._follow(uid) for uid in waiting]
        return not all(done)

    def _follow(self, uid: str) -> bool:
        """Take a study if that is possible now; whether nothing more is to be done about it."""
        trouble = self._troubles.get(uid, _Trouble(0, self.clock()))
        if trouble.until > self.clock():
            return False
        study = find_study(self.server, uid)
        before, self._counts[uid] = self._counts.get(uid), study.ct
        if before != study.ct:  # it is new, or still arriving
            return not study.ct
        try:
            self._take(study)
        except UnreachableError as error:
            pause = self._pause(trouble.times + 1)
            self._troubles[uid] = _Trouble(trouble.times + 1, self.clock() + pause)
            raise UnreachableError(f"study {uid}: {error}") from error
        except DeniedError:
            raise
        except LunaError as error:
            if _is_of_this_machine(error):
                raise
            self._end(uid, "failed", str(error))
        return True

    def _take(self, study: Study) -> None:
        if study.elsewhere:
            return self._end(study.uid, "left", f"no chest: {study.elsewhere}")
        if is_reported(self.server, study):
            return self._end(study.uid, "stored", "its findings are there already")
        results = self.folder / RESULTS / study.uid
        report = _report_in(results) or self._diagnosed(study, results)
        if not report.is_searched:
            return self._end(study.uid, "left", "no lungs were found, so nothing was searched")
        self.record.put(study.uid, "diagnosed")
        stored = " and ".join(each.kind for each in store(self.server, report, results))
        return self._end(study.uid, "stored", f"{report.count}, {stored} stored")

    def _diagnosed(self, study: Study, results: Path) -> Report:
        with fetched(self.server, study, self.progress, self.folder / TEMPORARY) as scan:
            if self.record.attempt(study.uid) > MAX_ATTEMPTS:
                raise LunaError(f"study {study.uid}: its diagnosis ended the process {MAX_ATTEMPTS} times")
            try:
                return diagnosed(self.diagnose, scan, results)
            except KeyboardInterrupt:
                self.record.attempt(study.uid, -1)
                raise

    def _end(self, uid: str, state: State, reason: str) -> None:
        self.record.put(uid, state, reason)
        self._troubles.pop(uid, None)
        text = reason.removeprefix(f"study {uid}: ")
        self.tell(f"study {uid}: {text if state == 'stored' else f'{state}: {text}'}")

    def _pause(self, failures: int) -> float:
        """Seconds until the next look, twice as many after each that failed."""
        longest = max(self.interval, LONGEST_PAUSE_SECONDS)
        return min(self.interval * 2.0 ** min(failures, 20), longest)


@contextmanager
def watching(folder: Path) -> Iterator[None]:
    """A folder for a `Watch`, made if it is not there, for nobody else within the block.

    What a killed one has left half done is removed. Raises LunaError where another holds it.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_ours = stack.enter_context(claiming(folder / LOCK))
            if is_ours:
                shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
                (folder / TEMPORARY).mkdir()
        except OSError as error:
            raise LunaError(f"{folder}: cannot be written: {error.strerror}; name another folder") from error
        if not is_ours:
            raise LunaError(f"{folder}: another watch works in it; name another folder")
        yield


def _report_in(results: Path) -> Report | None:
    """The report of results that are whole and of this version, if there is one."""
    try:
        return Report.model_validate_json((results / REPORT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def _is_of_this_machine(error: LunaError) -> bool:
    """Whether it is no fault of the scan: there is no room on the disk, or the record cannot be written."""
    cause = error.__cause__
    is_full = isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL
    return is_full or isinstance(cause, sqlite3.Error)
