"""Hands one waiting job after the other to the worker process, and sees to it that each comes to an end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread
from typing import Literal, TypeVar

from p2ch_luna.errors import LunaError
from p2ch_luna.processes import Crew, Ended, end_when_asked
from p2ch_luna.serve.jobs import Claim, Diagnose, Hindered, Outcome, State
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.store import JobStore

WorkerState = Literal["starting", "ready", "busy", "failing"]
ValueT = TypeVar("ValueT")

START_SECONDS = 300.0  # for the worker to load its networks
PAUSES_S = (10.0, 60.0)  # before the worker is started again that could not: at first, later
POLL_SECONDS = 0.1  # after which a cancelled job is noticed
HEARTBEAT_SECONDS = 5.0  # after which a worker is missed that ended while it had nothing to do
RETRY_SECONDS = 5.0  # where the queue cannot be read or written
ROOM_SECONDS = 60.0  # in which a full disk may get room
PATIENCE_SECONDS = 1.0  # for the worker to end in good order
CANCEL_SECONDS = 10.0
READY = "ready?"  # what the worker is asked before each job
Answer = Outcome | Hindered | Ended | None  # None: the worker was ended before it gave one
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Attempt:
    claim: Claim
    begun: float = field(default_factory=time.monotonic)
    is_handed_out: Event = field(default_factory=Event)
    is_cancelled: Event = field(default_factory=Event)
    is_over: Event = field(default_factory=Event)


class Dispatcher:
    """A thread and its worker process, which does one job at a time.

    start: called once in the worker; it returns what does a job there, and never raises. It is sent to a new
    interpreter, so it is a function of a module, or a `partial` of one.
    job_seconds: an attempt may take; after that the worker is killed and the job has failed.
    on_end: is told the state of each job that ends, and the seconds of its last attempt.
    """

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        start: Callable[[], Diagnose],
        job_seconds: float,
        on_end: Callable[[State, float], None],
    ) -> None:
        self._store, self._storage, self._job_seconds, self._on_end = store, storage, job_seconds, on_end
        self._crew: Crew[Claim | str, Outcome | Hindered] = Crew(1, partial(_begin, start))
        self._lock = Lock()  # held while an attempt becomes the one under way
        self._now: _Attempt | None = None
        self._stopping, self._woken = Event(), Event()
        self._state: WorkerState = "starting"
        self._reason: str | None = None
        self._failures = 0  # of the worker to start, one after the other
        self._thread = Thread(target=self._run, name="dispatcher", daemon=True)

    @property
    def state(self) -> WorkerState:
        """What the worker is doing."""
        return self._state

    @property
    def reason(self) -> str | None:
        """Why no jobs can be done at the moment; None if they can."""
        return self._reason

    def start(self) -> None:
        """Begin with the jobs that wait. `JobStore.recover` was called before."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; the job it was doing waits again, as if it had not been begun."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There is another job."""
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        """End the attempt at a job that was removed from the store; nothing is written of it afterwards."""
        with self._lock:
            now = self._now
        if now is not None and now.claim.job_id == job_id:
            now.is_cancelled.set()
            now.is_over.wait(CANCEL_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._is_ready() and not self._do_next():
                    self._woken.wait(HEARTBEAT_SECONDS)
                    self._woken.clear()
            except Exception as error:  # of any kind: nobody else would do the jobs
                self._fail(str(error) if isinstance(error, LunaError) else type(error).__name__)
                self._stopping.wait(RETRY_SECONDS)
        self._crew.end(PATIENCE_SECONDS)

    def _is_ready(self) -> bool:
        """Whether the worker has its networks. It is started if there is none; where it fails, a pause."""
        answer = self._ask(READY, START_SECONDS)
        if isinstance(answer, Outcome) and answer.error is None:
            self._state, self._reason, self._failures = "ready", None, 0
            return True
        if self._state == "ready":  # it ended while it had nothing to do: another takes its place
            self._state = "starting"
        elif not self._stopping.is_set():
            self._crew.end(PATIENCE_SECONDS)
            self._fail(_why_not_ready(answer))
            self._stopping.wait(PAUSES_S[min(self._failures, len(PAUSES_S) - 1)])
            self._failures += 1
        return False

    def _do_next(self) -> bool:
        """Do the job that has waited longest; False if none waits."""
        with self._lock:
            claim = self._store.claim()
            if claim is None:
                return False
            now = self._now = _Attempt(claim)
        self._state = "busy"
        try:
            answer = self._attempt(now)
        except Exception:
            self._insist(lambda: self._put_back(now))
            raise
        finally:
            self._now = None
            now.is_over.set()
        if isinstance(answer, Hindered):
            self._fail("the disk is full")  # its reason may say what the client calls the scan
            self._stopping.wait(ROOM_SECONDS)
        return True

    def _attempt(self, now: _Attempt) -> Answer:
        job_id = now.claim.job_id
        self._storage.drop_results(job_id)  # half ones, where an attempt was killed with the server
        _log.info("job %s: attempt %d begins", job_id, now.claim.attempt)
        answer = self._ask(now.claim, self._job_seconds)
        seconds = time.monotonic() - now.begun
        if answer is None or isinstance(answer, Ended):
            self._state = "starting"
        if not isinstance(answer, Outcome) or answer.error is not None:
            self._storage.drop_results(job_id)
        state = self._insist(lambda: self._settle(now, answer))
        if state != "queued":
            self._storage.drop_scan(job_id)
        if state in ("done", "failed"):
            self._on_end(state, seconds)
        return answer

    def _settle(self, now: _Attempt, answer: Answer) -> State | None:
        """Write down what came of an attempt; the state of its job, None if that was removed meanwhile."""
        claim = now.claim
        if isinstance(answer, Outcome):
            return self._end(claim, answer)
        if now.is_cancelled.is_set():
            _log.info("job %s: cancelled", claim.job_id)
            return None
        if self._stopping.is_set() or (isinstance(answer, Ended) and answer.was_asked_to):
            self._store.give_back(claim)
            return "queued"
        if answer is None:
            _log.warning("job %s: the worker was ended, for time was over", claim.job_id)
            reason = f"the diagnosis took longer than {_spoken(self._job_seconds)} and was ended"
            return self._end(claim, Outcome(error=reason))
        if isinstance(answer, Ended):
            _log.warning("job %s: the worker %s", claim.job_id, answer.how)
            return self._store.interrupted(claim, f"the process that diagnosed it {answer.how}")
        _log.warning("job %s: attempt %d was hindered: the disk is full", claim.job_id, claim.attempt)
        return self._store.interrupted(claim, answer.reason)

    def _end(self, claim: Claim, outcome: Outcome) -> State | None:
        state: State = "done" if outcome.error is None else "failed"
        if not self._store.end(claim, outcome):
            return None
        _log.info("job %s: %s", claim.job_id, state)
        return state

    def _put_back(self, now: _Attempt) -> None:
        """After an error of the dispatcher. A job that no worker was handed is not to blame for it."""
        if now.is_handed_out.is_set():
            self._store.interrupted(now.claim, "the worker could not be reached")
        else:
            self._store.give_back(now.claim)

    def _ask(self, task: Claim | str, seconds: float) -> Answer:
        """What the worker answers; None where it was ended, for time was over or nobody wants to know."""
        answer: Answer = None
        until = time.monotonic() + seconds
        try:
            self._crew.hand_out(deque([task]))
            if self._now is not None:
                self._now.is_handed_out.set()
            while answer is None and time.monotonic() < until and not self._is_called_off():
                answer = next((given for _, given in self._crew.answers(POLL_SECONDS)), None)
        finally:
            if answer is None:
                self._crew.end(PATIENCE_SECONDS)
        return answer

    def _is_called_off(self) -> bool:
        return self._stopping.is_set() or (self._now is not None and self._now.is_cancelled.is_set())

    def _insist(self, change: Callable[[], ValueT]) -> ValueT:
        """Change the queue, as soon as it can be written. Raises LunaError where it cannot until the stop."""
        while True:
            try:
                return change()
            except LunaError as error:
                self._fail(str(error))
                if self._stopping.wait(RETRY_SECONDS):
                    raise

    def _fail(self, reason: str) -> None:
        self._state, self._reason = "failing", reason
        _log.error("no jobs can be done: %s", reason)


def _begin(start: Callable[[], Diagnose]) -> Callable[[Claim | str], Outcome | Hindered]:
    """What the worker process does first; returns what it answers."""
    end_when_asked()
    try:
        return partial(_answer, start())
    except LunaError as error:
        return partial(_refuse, str(error))


def _answer(diagnose: Diagnose, task: Claim | str) -> Outcome | Hindered:
    return Outcome() if isinstance(task, str) else diagnose(task)


def _refuse(reason: str, _task: Claim | str) -> Outcome:
    return Outcome(error=reason)


def _why_not_ready(answer: Answer) -> str:
    if isinstance(answer, Ended):
        return f"the process that loads the networks {answer.how}"
    if isinstance(answer, Outcome):
        return str(answer.error)
    return f"the worker was not ready after {_spoken(START_SECONDS)}"


def _spoken(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
