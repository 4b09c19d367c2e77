"""Many scans in processes of this machine: each loads the networks once, and one bad scan ends no other."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import FrameType

from p2ch_luna.errors import LunaError
from p2ch_luna.report.many.summary import Row, failed
from p2ch_luna.report.many.work import Job, Task, Worker, sweep

WORKER_BYTES = 3 << 30  # for the longest scans
PATIENCE_SECONDS = 30.0  # for a process to end in good order


def default_workers() -> int:
    """One for each processor that this process may use, if there is `WORKER_BYTES` of memory for each.

    On 2 cores two of one thread do 1.2 times as many scans a minute as one of two threads.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(processors(), memory // WORKER_BYTES))


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(tasks: Sequence[Task], job: Job, workers: int | None = None) -> Generator[Row]:
    """Do the tasks and yield each row as soon as it is known.

    workers: `default_workers()` if None; they share the processors as threads.
    A scan whose process is killed has failed, and another process goes on with the rest. Where the caller
    stops early, what is under way is given up. Raises LunaError where a worker cannot load its networks.
    """
    workers = workers or default_workers()
    threads = max(1, processors() // workers)
    left = deque(tasks)
    pool: list[_Process] = []
    try:
        while left or any(process.task for process in pool):
            _hand_out(left, pool, job, workers, threads)
            for process in _wait_for_one(pool):
                answer = process.finish()
                if not process.is_alive:
                    pool.remove(process)
                if isinstance(answer, LunaError):
                    raise answer
                yield answer
    finally:
        for process in pool:
            process.terminate()
        for process in pool:  # all have been asked before the first is waited for
            process.join()


def _hand_out(left: deque[Task], pool: list[_Process], job: Job, workers: int, threads: int) -> None:
    """Give each process that has none a scan; processes are added as they are needed."""
    while left:
        idle = next((process for process in pool if process.task is None), None)
        if idle is None:
            if len(pool) >= workers:
                return
            idle = _Process(job, threads)
            pool.append(idle)
        idle.begin(left.popleft())


def _wait_for_one(pool: Sequence[_Process]) -> list[_Process]:
    """The processes that have answered, or died; at least one."""
    ready = wait([process.connection for process in pool if process.task is not None])
    return [process for process in pool if process.connection in ready]


class _Process:
    """A `Worker` in a process of its own, seen from the one that leads."""

    def __init__(self, job: Job, threads: int) -> None:
        context = get_context("spawn")  # a fork would copy locks that a thread of torch may hold
        self.task: Task | None = None
        self.is_alive = True
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job, threads), daemon=True)
        with _interrupts_held():
            self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def begin(self, task: Task) -> None:
        """Hand it a scan; if it is dead already, `finish` tells."""
        self.task = task
        with suppress(BrokenPipeError):
            self.connection.send(task)

    def finish(self) -> Row | LunaError:
        """What came of its scan. Called when its connection is ready."""
        task, self.task = self.task, None
        if task is None:
            raise ValueError("no scan was begun")
        try:
            answer: Row | LunaError = self.connection.recv()
        except (EOFError, ConnectionError):
            self.is_alive = False
            self.connection.close()
            self._process.join()
            sweep(task.folder)
            return failed(task.scan, _how_it_ended(self._process.exitcode or 0))
        return answer

    def terminate(self) -> None:
        """Ask it to end, whatever it is doing."""
        self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended; what it has not moved in is not there."""
        self._process.join(PATIENCE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()
        if self.task is not None:
            sweep(self.task.folder)


def _how_it_ended(code: int) -> str:
    how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with code {code}"
    return f"the process that diagnosed it {how}; try again with fewer workers"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; those started in this block leave it to the leading one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection[Row | LunaError, Task], job: Job, threads: int) -> None:
    """What a worker process does, until the leading one ends."""
    signal.signal(signal.SIGTERM, _leave)
    worker = Worker(job, threads)
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(worker.attempt(connection.recv()))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End as an exception does, so that half-written results are removed on the way."""
    sys.exit(128 + signal.SIGTERM)
