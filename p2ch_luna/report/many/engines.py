"""Many scans in processes of this machine: each loads the networks once, and one bad scan ends no other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.processes import Crew, Ended, end_when_asked
from p2ch_luna.report.many.summary import Row
from p2ch_luna.report.many.work import Job, Task, Worker, lost, sweep

WORKER_BYTES = 3 << 30  # for the longest scans
PATIENCE_SECONDS = 30.0  # for a process to end in good order
MEMORY_LIMITS = (  # of the control group of this process, as a container shows it: version 2, version 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def shares_of(
    n_tasks: int, device: str, workers: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """How many workers, no more than tasks, and the threads of each, which share the processors if None.

    workers: if None, as many as there are processors for their threads (1 if None) and `WORKER_BYTES` of
    memory for each; but one where they compute on a GPU, as all would on the same. On 2 cores two workers of
    one thread do 1.2 times as many scans a minute as one of two.
    """
    if workers is None:
        fit = min(processors() // (threads or 1), memory_bytes() // WORKER_BYTES)
        workers = fit if device == "cpu" else 1
    workers = max(1, min(workers, n_tasks))
    return workers, threads or max(1, processors() // workers)


def memory_bytes() -> int:
    """Of this machine, or what its control group may have of it."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(path.read_text(encoding="utf-8")))
    return min(found)


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    tasks: Sequence[Task], job: Job, workers: int | None = None, threads: int | None = None
) -> Generator[Row]:
    """Do the tasks and yield each row as soon as it is known.

    workers, threads: processes, and threads of each; as `shares_of` says.
    A scan whose process is killed has failed, and another process goes on with the rest. Where the caller
    stops early, what is under way is given up. Raises LunaError where a worker cannot load its networks.
    """
    workers, threads = shares_of(len(tasks), job.device, workers, threads)
    left = deque(tasks)
    crew: Crew[Task, Row | LunaError] = Crew(workers, partial(_begin, job, threads))
    try:
        while left or crew.is_busy:
            crew.hand_out(left)
            for task, answer in crew.answers():
                if isinstance(answer, LunaError):
                    raise answer
                yield lost(task, answer.reason("diagnosed")) if isinstance(answer, Ended) else answer
    finally:
        for task in crew.end(PATIENCE_SECONDS):  # what is not moved in yet is not there
            sweep(task.folder)


def _begin(job: Job, threads: int) -> Callable[[Task], Row | LunaError]:
    """What a worker process does first; returns what it does with each scan."""
    end_when_asked()
    return Worker(job, threads).attempt
