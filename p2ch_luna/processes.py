"""Processes that answer tasks for the one that leads them, and what a signal does to it and to them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Generic, NamedTuple, TypeVar

TaskT = TypeVar("TaskT")
AnswerT = TypeVar("AnswerT")
ASKED_TO_END = 128 + signal.SIGTERM  # the exit code of who has done so in good order


class Ended(NamedTuple):
    """In place of an answer: the process has ended before it gave one.

    code: its exit code; below zero the signal that killed it.
    """

    code: int

    @property
    def how(self) -> str:
        """In words, after `the process`."""
        killed = f"was killed by signal {-self.code} (out of memory?)"
        return killed if self.code < 0 else f"ended with code {self.code}"

    @property
    def was_asked_to(self) -> bool:
        """Whether somebody asked it to end, as a system does that shuts down; nothing was wrong with it."""
        return self.code in (-signal.SIGTERM, ASKED_TO_END)

    def reason(self, did: str) -> str:
        """A line for who waits for the answer of one of several. did: to the task, as `prepared`."""
        return f"the process that {did} it {self.how}; try again with fewer workers"


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

    def answers(self, timeout_s: float | None = None) -> Iterator[tuple[TaskT, AnswerT | Ended]]:
        """Wait for the first answer; yield tasks with what came of them, all that are there by then.

        timeout_s: where none has come by then, none is yielded; None: as long as it takes.
        """
        busy = [process.connection for process in self._processes if process.task is not None]
        ready = wait(busy, timeout_s)
        for process in [process for process in self._processes if process.connection in ready]:
            task, answer = process.finish()
            if isinstance(answer, Ended):
                self._processes.remove(process)
            yield task, answer

    def end(self, patience_s: float | None = None) -> list[TaskT]:
        """End all processes, whatever they are doing; returns the tasks that are given up by that.

        patience_s: so long each may take to end in good order, after which it is killed; None for ever.
        Tasks that are handed out afterwards get new processes.
        """
        ended, self._processes = self._processes, []
        for process in ended:
            process.terminate()
        for process in ended:  # all have been asked before the first is waited for
            process.join(patience_s)
        return [process.task for process in ended if process.task is not None]


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
        with suppress(ConnectionError):
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
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    answer = start()
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(answer(connection.recv()))


def _leave_with_parent() -> None:
    """End this process as soon as the leading one is gone: nobody waits for what it is computing."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def end_when_asked() -> None:
    """From now on SIGTERM ends this process as an exception does, so that `finally` and `with` are heeded."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: a second one would interrupt the `finally` blocks
    sys.exit(ASKED_TO_END)


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
