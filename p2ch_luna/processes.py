"""Processes that answer tasks for the one that leads them, and what a signal does to it and to them."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Generic, NamedTuple, TypeVar

TaskT = TypeVar("TaskT")
AnswerT = TypeVar("AnswerT")


class Ended(NamedTuple):
    """In place of an answer: the process has ended before it gave one.

    code: its exit code; below zero the signal that killed it.
    """

    code: int

    def reason(self, did: str) -> str:
        """A line for who waits for the answer. did: to the task, as `prepared`."""
        killed = f"was killed by signal {-self.code} (out of memory?)"
        how = killed if self.code < 0 else f"ended with code {self.code}"
        return f"the process that {did} it {how}; try again with fewer workers"


class Crew(Generic[TaskT, AnswerT]):
    """Processes that answer one task after the other; more are started as they are needed.

    size: at most so many at once. Where one has ended, another takes its place.
    start: called once in each process; it returns what answers a task there. It is sent to a new interpreter,
    so it is a function of a module, or a `partial` of one. Tasks are not None.
    """

    def __init__(self, size: int, start: Callable[[], Callable[[TaskT], AnswerT]]) -> None:
        self._size, self._start = size, start
        self._processes: list[_Process[TaskT, AnswerT]] = []

    @property
    def is_busy(self) -> bool:
        """Whether an answer is to come."""
        return any(process.task is not None for process in self._processes)

    def hand_out(self, tasks: deque[TaskT]) -> None:
        """Take tasks from the left, one for each process that has none; returns at once."""
        while tasks:
            idle = next((process for process in self._processes if process.task is None), None)
            if idle is None:
                if len(self._processes) >= self._size:
                    return
                idle = _Process(self._start)
                self._processes.append(idle)
            idle.begin(tasks.popleft())

    def answers(self) -> Iterator[tuple[TaskT, AnswerT | Ended]]:
        """Wait for the first answer; yield tasks with what came of them, all that are there by then."""
        ready = wait([process.connection for process in self._processes if process.task is not None])
        for process in [process for process in self._processes if process.connection in ready]:
            task, answer = process.finish()
            if isinstance(answer, Ended):
                self._processes.remove(process)
            yield task, answer

    def end(self, patience_s: float | None = None) -> list[TaskT]:
        """End all processes, whatever they are doing; returns the tasks that are given up by that.

        patience_s: so long each may take to end in good order, after which it is killed; None for ever.
        """
        for process in self._processes:
            process.terminate()
        for process in self._processes:  # all have been asked before the first is waited for
            process.join(patience_s)
        return [process.task for process in self._processes if process.task is not None]


class _Process(Generic[TaskT, AnswerT]):
    """One of them, seen from the process that leads."""

    def __init__(self, start: Callable[[], Callable[[TaskT], AnswerT]]) -> None:
        context = get_context("spawn")  # a fork would copy locks that a thread may hold
        self.task: TaskT | None = None
        self.connection: Connection[TaskT, AnswerT]
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        with _interrupts_held():
            self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, task: TaskT) -> None:
        """Hand it a task; if it is dead already, `finish` tells."""
        self.task = task
        with suppress(BrokenPipeError):
            self.connection.send(task)

    def finish(self) -> tuple[TaskT, AnswerT | Ended]:
        """Its task and what came of it. Called when its connection is ready."""
        task, self.task = self.task, None
        if task is None:
            raise ValueError("no task was begun")
        try:
            return task, self.connection.recv()
        except (EOFError, ConnectionError):
            self.connection.close()
            self._process.join()
            return task, Ended(self._process.exitcode or 0)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def join(self, patience_s: float | None) -> None:
        """Wait until it has ended."""
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; those started in this block leave it to the leading one."""
    resource_tracker.ensure_running()  # else the first to be started starts it, which lets go of the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection[AnswerT, TaskT], start: Callable[[], Callable[[TaskT], AnswerT]]) -> None:
    """What a process does, until the leading one ends."""
    answer = start()
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(answer(connection.recv()))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts the block as Ctrl-C does: by a KeyboardInterrupt, whose argument is its number.

    In the main thread alone, where alone it can be heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
