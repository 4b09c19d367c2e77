"""Measure `luna serve` under load and under faults, with the real networks, on this machine alone. Linux.

usage: serve_load.py [--uploads 50] [--clients 8]

Clients upload a phantom at the same time, wait as long as a 429 asks them to and try again; meanwhile
/health is asked every 50 ms and the memory is read. Then the worker and the server are killed, a client
hangs up, the disk runs full. Prints a Markdown table; progress on stderr, and last what came of it, with
what could not be tried here. Exit code 1 if a promise is broken: a job lost, 95 % of the answers of /health
not within 100 ms, memory that grows by over 5 %, a fault that is not borne.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from serve_faults import Fault, all_faults
from serve_process import JOB_SECONDS, Server, resident_mb, write_phantom

from p2ch_luna.processes import terminable

HEALTH_EVERY_S = 0.05
MAX_HEALTH_P95_MS = 100.0
MAX_GROWTH = 0.05
WARM_AFTER = 5  # jobs; growth is judged from there on, as what is used first is loaded by then
MAX_TRIES = 200  # of one upload
MAX_WAIT_S = 600


@dataclass
class Measured:
    """Of a load. refused: answers 429. memory: MB, the lowest until the next job has ended, by jobs ended."""

    uploads: int
    seconds: float = 0.0
    refused: int = 0
    states: list[str] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)
    server_mb: dict[int, float] = field(default_factory=dict)
    worker_mb: dict[int, float] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """Uploads that did not come to results."""
        return self.uploads - self.states.count("done")

    def marks(self) -> list[int]:
        """Numbers of jobs after which memory is told: 5, 25 and 50 of 50."""
        return sorted({max(1, self.uploads // 10), max(1, self.uploads // 2), self.uploads})

    def growth(self, memory: dict[int, float]) -> float | None:
        """From the first mark to the last, as a fraction; None if too few jobs were done to judge."""
        first, last = self.marks()[0], self.marks()[-1]
        if first < WARM_AFTER or first not in memory or last not in memory:
            return None
        return memory[last] / memory[first] - 1


def quantile(values: Sequence[float], share: float) -> float:
    """The least of the values that this share of them does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else float("nan")


def upload(
    post: Callable[[], httpx.Response], pause: Callable[[float], object] = time.sleep
) -> tuple[str, int]:
    """Try until a scan is taken; the id of its job, and how often it was refused. Raises on other answers."""
    for refused in range(MAX_TRIES):
        answer = post()
        if answer.status_code != 429:
            return str(answer.raise_for_status().json()["id"]), refused
        pause(min(int(answer.headers["Retry-After"]), MAX_WAIT_S))
    raise TimeoutError(f"refused {MAX_TRIES} times")


def measure(server: Server, scan: Path, uploads: int, clients: int) -> Measured:
    """Upload the scan so often, by so many clients at once, and watch until all jobs have ended."""
    measured = Measured(uploads)
    over = threading.Event()
    begin = time.monotonic()
    with (
        httpx.Client(base_url=server.address, timeout=10.0) as client,
        ThreadPoolExecutor(clients + 1) as pool,
    ):
        asking = pool.submit(ask_health, lambda: client.get("/health"), over, measured.health_ms)
        sent = [pool.submit(upload, lambda: server.post(scan), over.wait) for _ in range(uploads)]
        try:
            watch(server, sent, measured)
        except BaseException:
            server.stop()  # so that no client tries on
            raise
        finally:
            over.set()
    asking.result()
    measured.seconds = time.monotonic() - begin
    measured.refused = sum(future.result()[1] for future in sent)
    measured.states = [server.job(future.result()[0])["state"] for future in sent]
    return measured


def watch(server: Server, sent: Sequence[Future[tuple[str, int]]], measured: Measured) -> None:
    """Read the memory until all have been sent and have ended. Raises TimeoutError."""
    end = time.monotonic() + JOB_SECONDS + len(sent) * 60
    told = -1
    while time.monotonic() < end:
        health = server.health()
        all_sent = all(future.done() for future in sent)
        jobs = server.client.get(f"/api/jobs?limit={min(200, len(sent))}").json()["jobs"]
        ended = sum(job["state"] in ("done", "failed") for job in jobs)
        if ended:
            note(measured.server_mb, ended, resident_mb(server.pid))
            worker = server.worker_pid()
            note(measured.worker_mb, ended, resident_mb(worker) if worker else None)
        if ended != told:
            told = ended
            print(f"{ended} of {len(sent)} jobs, {health['queued']} wait", file=sys.stderr)
        if all_sent and ended >= len(sent):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{told} of {len(sent)} jobs ended in time")


def note(memory: dict[int, float], ended: int, mb: float | None) -> None:
    """Keep the lowest by the number of jobs that have ended."""
    if mb is not None:
        memory[ended] = min(mb, memory.get(ended, mb))


def ask_health(get: Callable[[], httpx.Response], over: threading.Event, spent_ms: list[float]) -> None:
    """Time the answers at whose begin or end a job runs; a refusal, or what is no such answer, is endless."""
    ran = False
    while not over.wait(HEALTH_EVERY_S):
        begin = time.perf_counter()
        try:
            runs = get().raise_for_status().json()["running"] > 0
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            spent_ms.append(float("inf"))
            continue
        if ran or runs:
            spent_ms.append((time.perf_counter() - begin) * 1000)
        ran = runs


def table(measured: Measured, clients: int, faults: Iterable[Fault]) -> str:
    """Markdown."""
    took = [quantile(measured.health_ms, share) for share in (0.5, 0.95, 1.0)]
    rows = [
        (f"{measured.uploads} uploads by {clients} clients at once",
         f"{measured.lost} lost; refused with 429 and tried again: {measured.refused} times"),
        ("seconds a job", f"{measured.seconds / measured.uploads:.1f}"),
        (f"`/health` while a job runs, {len(measured.health_ms)} answers: median, p95, longest",
         " / ".join(f"{ms:.0f}" for ms in took) + " ms"),
        memory_row("server", measured, measured.server_mb),
        memory_row("worker", measured, measured.worker_mb),
        *((fault.what, fault.came_of_it) for fault in faults),
    ]  # fmt: skip
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def memory_row(name: str, measured: Measured, memory: dict[int, float]) -> tuple[str, str]:
    """The row of a process."""
    marks, growth = measured.marks(), measured.growth(memory)
    told = " / ".join(f"{memory[mark]:.0f}" if mark in memory else "?" for mark in marks)
    grown = "" if growth is None else f" ({growth:+.1%})"
    return f"memory of the {name} after {' / '.join(map(str, marks))} jobs", f"{told} MB{grown}"


def broken(measured: Measured, faults: Iterable[Fault]) -> list[str]:
    """The promises that were not kept."""
    complaints = [f"not borne: {fault.what}" for fault in faults if fault.is_borne is False]
    if measured.lost:
        complaints.append(f"{measured.lost} of {measured.uploads} jobs lost")
    if not quantile(measured.health_ms, 0.95) <= MAX_HEALTH_P95_MS:
        complaints.append(f"/health: p95 {quantile(measured.health_ms, 0.95):.0f} ms")
    for name, memory in (("server", measured.server_mb), ("worker", measured.worker_mb)):
        growth = measured.growth(memory)
        if growth is not None and growth > MAX_GROWTH:
            complaints.append(f"the memory of the {name} grew by {growth:.1%}")
    return complaints


def verdict(complaints: Sequence[str], faults: Iterable[Fault]) -> str:
    """What came of all, in a line."""
    judged = f"broken: {'; '.join(complaints)}" if complaints else "no promise is broken"
    untried = [f"{fault.what}: {fault.came_of_it}" for fault in faults if fault.is_borne is None]
    return "; ".join([judged, *untried])


def main(args: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--uploads", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args(args)
    with terminable(), tempfile.TemporaryDirectory(prefix="luna-load-") as name:
        folder = Path(name)
        scan = write_phantom(folder / "phantom")
        with Server(folder / "serve", folder / "serve.log") as server:
            measured = measure(server, scan, options.uploads, options.clients)
            faults = all_faults(server, folder, scan)
    print(table(measured, options.clients, faults))
    complaints = broken(measured, faults)
    print(verdict(complaints, faults), file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
