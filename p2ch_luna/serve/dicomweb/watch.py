"""Follow a DICOMweb server: every new chest CT is diagnosed, once, and the findings stored beside it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from p2ch_luna.errors import LunaError, told
from p2ch_luna.inference.detector import Progress
from p2ch_luna.io.file_locks import claiming
from p2ch_luna.report.dicom.sources import patient_kept_quiet
from p2ch_luna.report.outputs import REPORT, SEGMENTATION, STRUCTURED_REPORT
from p2ch_luna.report.schema import Report
from p2ch_luna.serve.dicomweb.answers import check_whole
from p2ch_luna.serve.dicomweb.client import Server
from p2ch_luna.serve.dicomweb.failures import (
    DeniedError,
    MissingError,
    OddAnswerError,
    UnreachableError,
    WrongServerError,
)
from p2ch_luna.serve.dicomweb.record import Record, State
from p2ch_luna.serve.dicomweb.study import (
    Diagnose,
    GoneError,
    Study,
    UnforeseenError,
    diagnosed,
    fetched,
    find_study,
    is_reported,
    store,
)

RECORD, LOCK, RESULTS, TEMPORARY = "watch.sqlite", "watch.lock", "results", "tmp"
LONGEST_PAUSE_SECONDS = 600.0
MAX_ATTEMPTS = 2  # a study in whose diagnosis the process ended is tried once more
MAX_ODD_LOOKS = 3  # at which what is listed of a study is not there, or is not what it should be
_ENDED: tuple[State, ...] = ("stored", "left", "failed")

_OTHERS = 0o077  # who are not the owner

log = logging.getLogger(__name__)


class EveryStudyError(UnreachableError):
    """The server tells which studies there are, and answers for none of those that were tried."""


class _Trouble(NamedTuple):
    """A study for which the server did not answer, or not as it should."""

    times: int
    odd: int  # so often it did answer
    until: float  # by the clock: it is left alone


_NO_TROUBLE = _Trouble(0, 0, float("-inf"))


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
    _counts: dict[str, dict[str, str]] = field(default_factory=dict)  # of CT images, at the last look
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    _is_begun: bool = False

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
                is_more_to_come = True
                if isinstance(error, EveryStudyError):  # each study waits for itself
                    failures = 0
                else:
                    failures += 1
                    log.warning("%s; another look in %g s", error, self._pause(failures))
            if once and not is_more_to_come:
                return
            self.sleep(self._pause(failures))

    def look(self) -> bool:
        """Do what can be done now; whether a study is there that cannot yet be.

        Raises UnreachableError where the server does not say which studies there are, or answers for none.
        """
        listed = self.server.studies(self.study_date)
        if not self._is_begun:
            self._begin(listed)
        ended = self.record.of(*_ENDED, *(() if self.existing else ("earlier",)))
        waiting = [uid for uid in dict.fromkeys((*listed, *self.record.of("diagnosed"))) if uid not in ended]
        self._counts = {uid: self._counts[uid] for uid in waiting if uid in self._counts}
        self._troubles = {uid: self._troubles[uid] for uid in waiting if uid in self._troubles}
        due = [uid for uid in waiting if self._troubles.get(uid, _NO_TROUBLE).until <= self.clock()]
        is_more_to_come, errors = len(due) < len(waiting), []
        for uid in due:
            try:
                is_more_to_come |= not self._follow(uid)
            except UnreachableError as error:
                errors.append(error)
        if errors and len(errors) == len(due):
            raise EveryStudyError(str(errors[0])) from errors[0]
        return is_more_to_come or bool(errors)

    def _begin(self, listed: list[str]) -> None:
        """Note what is there before the very first look; tell what is left out for that."""
        is_new = self.record.is_new
        if is_new:
            self.record.begin(listed)
        earlier = len(self.record.of("earlier"))
        left = "; left out, --existing takes them too" if earlier and not self.existing else ""
        if is_new or left:
            self.tell(f"{self.server.url}: studies with CT from before the first look: {earlier}{left}")
        self._is_begun = True

    def _follow(self, uid: str) -> bool:
        """Take a study if that is possible now; whether nothing more is to be done about it.

        Raises UnreachableError where the server does not answer: it is noted and told.
        """
        try:
            return self._try(uid)
        except (DeniedError, WrongServerError):
            raise
        except (UnreachableError, MissingError) as error:
            trouble = self._note(uid, error)
            if trouble.odd < MAX_ODD_LOOKS:
                raise UnreachableError(f"study {uid}: {error}") from error
            self._end(uid, "failed", str(error))
        except LunaError as error:
            if _is_of_this_machine(error):
                raise
            self._end(uid, "failed", str(error))
        except Exception as error:  # of any kind: a traceback may quote a header
            if not isinstance(error, OSError):
                self.record.attempt(uid)
            raise LunaError(f"study {uid}: {told(error)}; expected a watch that goes on") from error
        return True

    def _try(self, uid: str) -> bool:
        study = find_study(self.server, uid)
        before, self._counts[uid] = self._counts.get(uid), study.counts
        if before != study.counts:  # it is new, or still arriving
            return not study.ct
        self._take(study)
        return True

    def _note(self, uid: str, error: LunaError) -> _Trouble:
        before = self._troubles.get(uid, _NO_TROUBLE)
        odd = before.odd + isinstance(error, OddAnswerError | MissingError)
        pause = self._pause(before.times + 1)
        trouble = _Trouble(before.times + 1, odd, self.clock() + pause)
        self._troubles[uid] = trouble
        if odd < MAX_ODD_LOOKS:
            log.warning("study %s: %s; tried again in %g s", uid, error, pause)
        return trouble

    def _take(self, study: Study) -> None:
        if study.elsewhere:
            return self._end(study.uid, "left", f"no chest: {study.elsewhere}")
        if not study.ct:
            reason = "it has no CT series" if study.series else "it is gone from the server"
            return self._end(study.uid, "left", reason)
        if is_reported(self.server, study):
            return self._end(study.uid, "stored", "its findings are there already")
        results = self.folder / RESULTS / study.uid
        report = _report_in(results) or self._diagnosed(study, results)
        if not report.is_searched:
            return self._end(study.uid, "left", "no lungs were found, so nothing was searched")
        self.record.put(study.uid, "diagnosed")
        try:
            stored = " and ".join(each.kind for each in store(self.server, report, results))
        except GoneError as error:
            return self._end(study.uid, "left", str(error))
        return self._end(study.uid, "stored", f"{report.count}, {stored} stored")

    def _diagnosed(self, study: Study, results: Path) -> Report:
        """What ends in good order, or because of the machine, is no attempt."""
        known = self.record.get(study.uid)
        if known and known.attempts >= MAX_ATTEMPTS:
            raise LunaError(f"study {study.uid}: its diagnosis ended the process {MAX_ATTEMPTS} times")
        if results.exists():  # it cannot be read: the power was cut, or another version wrote it
            shutil.rmtree(results)
        self.progress.stage(f"study {study.uid}: begun")
        with fetched(self.server, study, self.progress, self.folder / TEMPORARY) as scan:
            self.record.attempt(study.uid)
            try:
                return diagnosed(self.diagnose, scan, results)
            except UnforeseenError:
                raise
            except (KeyboardInterrupt, LunaError):
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

    What a killed one has left half done is removed. Only the owner may look into what is said of patients;
    a folder that was there is left as it is, and a warning says so. Raises LunaError where another holds it.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_ours = stack.enter_context(claiming(folder / LOCK))
            if is_ours:
                _prepare(folder)
        except OSError as error:
            raise LunaError(f"{folder}: cannot be written: {error.strerror}; name another folder") from error
        if not is_ours:
            raise LunaError(f"{folder}: another watch works in it; name another folder")
        yield


def _prepare(folder: Path) -> None:
    shutil.rmtree(folder / TEMPORARY, ignore_errors=True)
    for name in (TEMPORARY, RESULTS):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
        if (folder / name).stat().st_mode & _OTHERS:
            (folder / name).chmod(0o700)
    if folder.stat().st_mode & _OTHERS:
        log.warning("%s: others can see which studies are watched; wanted chmod 700", folder)


def _report_in(results: Path) -> Report | None:
    """The report of results that are whole and of this version, if there is one."""
    try:
        report = Report.model_validate_json((results / REPORT).read_bytes())
        with patient_kept_quiet():
            for name in {SEGMENTATION, STRUCTURED_REPORT}.intersection(report.files):
                check_whole((results / name).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, MemoryError):
        raise
    except Exception:  # of any kind: it is read from what a power cut has left
        return None
    return report


def _is_of_this_machine(error: LunaError) -> bool:
    """Whether it may be no fault of the scan: another would hardly fare better.

    Errors of the system have a number; a decoder's OSError for broken pixels has none.
    """
    cause = error.__cause__
    is_of_system = isinstance(cause, OSError) and cause.errno is not None
    return is_of_system or isinstance(cause, sqlite3.Error) or isinstance(error, UnforeseenError)
