"""Many scans on the machines of a Ray cluster that share the disks of the scans and of the results."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from p2ch_luna.errors import LunaError
from p2ch_luna.report.many.engines import processors
from p2ch_luna.report.many.summary import Row
from p2ch_luna.report.many.work import Job, Task, Worker, lost, sweep

STORE_BYTES = 100 << 20  # of a local Ray's object store: only paths and rows pass through it
ANSWER_SECONDS = 10.0  # that a cluster may take to answer
RETRIES = 1  # of a scan whose worker is lost: with a machine, more often than by the scan


def in_ray(
    tasks: Sequence[Task], job: Job, workers: int | None = None, threads: int | None = None
) -> Generator[Row]:
    """Do the tasks as `engines.in_processes` does, by actors that hold the networks.

    The cluster is that of RAY_ADDRESS; without it one is started here and ended with the work.
    workers: one a processor of the cluster if None, on CUDA one a GPU.    threads: of each; its share of the
    processors if None. A scan whose actor is lost is tried once more by another. Raises LunaError where Ray
    is not installed, not to be reached or without a GPU that is needed, and where networks cannot be loaded.
    """
    given_up: list[Task] = []
    try:
        with _connected(workers) as ray:
            on_gpu = job.device == "cuda"
            shares = shares_of(_machines(ray), len(tasks), workers, threads, on_gpu=on_gpu)
            crew = _Crew(ray, job, shares, threads or shares.cpus)
            try:
                yield from crew.do(tasks)
            finally:
                given_up = crew.end()
    finally:
        for task in given_up:  # now that no process is left that may write there
            sweep(task.folder)


class Machine(NamedTuple):
    """What a machine of a cluster has."""

    cpus: int
    gpus: int = 0


class Shares(NamedTuple):
    """How many actors there are, and what each has to itself."""

    actors: int
    cpus: int
    gpus: int


def shares_of(
    machines: Sequence[Machine], n_tasks: int, workers: int | None, threads: int | None, *, on_gpu: bool
) -> Shares:
    """As many as are asked for, no more than there are tasks, and so that all of them find room at once.

    workers: None: as many as have `threads` processors (1 if None) and, `on_gpu`, a GPU. Raises LunaError
    where there is none.
    """

    def room(cpus: int) -> int:
        return sum(min(m.cpus // cpus, m.gpus) if on_gpu else m.cpus // cpus for m in machines)

    if on_gpu and not room(1):
        raise LunaError("Ray: its cluster has no GPU; wanted one, or the device cpu")
    actors = max(1, min(workers or room(threads or 1), room(1), n_tasks))
    most = max((m.cpus for m in machines), default=1)
    cpus = max((n for n in range(1, most + 1) if room(n) >= actors), default=1)
    return Shares(actors, cpus, int(on_gpu))


def _machines(ray: Any) -> list[Machine]:
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [Machine(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]


@contextmanager
def _connected(workers: int | None) -> Iterator[Any]:
    """The module `ray`, connected for the block; a connection that was there stays."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody; read when Ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what is to be the default, and quiet
    try:
        import ray
    except ImportError as error:
        raise LunaError('Ray is not installed; wanted pip install "p2ch-luna[dist]"') from error
    if ray.is_initialized():
        yield ray
        return
    with _own_handler():
        _connect(ray, workers)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, workers: int | None) -> None:
    """To the cluster of RAY_ADDRESS, else to a new one with processors for so many workers."""
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _check_answers(address)
    n_cpus = max(workers or 1, processors())
    own: dict[str, Any] = {"num_cpus": n_cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else own),
        )
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"RAY_ADDRESS {address}" if address else "a Ray of its own"
        wanted = "a running cluster, and RAY_AUTH_MODE and RAY_AUTH_TOKEN as it has them"
        reason = str(error).partition("\n")[0]
        raise LunaError(f"Ray: {where} cannot be used: {reason}; wanted {wanted}") from error


def _check_answers(address: str) -> None:
    """Raise LunaError where nobody listens at HOST:PORT, for which Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a name that Ray knows, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise LunaError(
            f"Ray: RAY_ADDRESS {address}: {error.strerror or error}; wanted a running cluster"
        ) from error


@contextmanager
def _own_handler() -> Iterator[None]:
    """What SIGTERM does after the block is what it did before: Ray sets a handler that exits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Crew:
    """Actors, what each is doing, and what is left to do."""

    def __init__(self, ray: Any, job: Job, shares: Shares, threads: int) -> None:
        self._ray, self._size = ray, shares.actors
        remote = ray.remote(num_cpus=shares.cpus, num_gpus=shares.gpus, max_restarts=0)
        self._new_actor = remote(Worker).remote
        self._job, self._threads = ray.put(job), threads
        self._actors: list[Any] = []
        self._doing: dict[Any, tuple[Any, Task]] = {}  # by the answer that is to come: actor and task
        self._left: deque[Task] = deque()
        self._lost: dict[Task, int] = {}  # how often a task's actor was lost

    def do(self, tasks: Sequence[Task]) -> Iterator[Row]:
        """Yield the row of each task as soon as it is known."""
        self._left.extend(tasks)
        while self._left or self._doing:
            self._hand_out()
            done, _ = self._ray.wait(list(self._doing), num_returns=1)
            answer = self._finish(done[0])
            if isinstance(answer, LunaError):
                raise answer
            if answer is not None:
                yield answer

    def end(self) -> list[Task]:
        """End all actors; what was under way."""
        for actor in self._actors:
            self._ray.kill(actor)
        return [task for _, task in self._doing.values()]

    def _hand_out(self) -> None:
        busy = [actor for actor, _ in self._doing.values()]
        while self._left and len(busy) < self._size:
            idle = next((actor for actor in self._actors if actor not in busy), None)
            if idle is None:
                idle = self._new_actor(self._job, self._threads)
                self._actors.append(idle)
            task = self._left.popleft()
            self._doing[idle.attempt.remote(task)] = idle, task
            busy.append(idle)

    def _finish(self, reference: Any) -> Row | LunaError | None:
        """A row, why no worker can work, or None where the scan is to be tried once more."""
        actor, task = self._doing.pop(reference)
        try:
            answer: Row | LunaError = self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            self._actors.remove(actor)
            self._lost[task] = self._lost.get(task, 0) + 1
            if self._lost[task] > RETRIES:
                told = f"the Ray worker that diagnosed it was lost {self._lost[task]} times (out of memory?)"
                return lost(task, f"{told}; try again with fewer workers")
            sweep(task.folder)
            self._left.append(task)
            return None
        return answer
