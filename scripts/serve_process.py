"""`luna serve` as a process to be measured and ill-treated, for serve_load.py. Linux: it reads /proc."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 120.0
STOP_SECONDS = 60.0
JOB_SECONDS = 300.0  # a job may take; beyond, it counts as lost
Answer = dict[str, Any]


class Server:
    """A server on a folder and a free port of this machine; as a context it is stopped at the end.

    log: a file that its output is added to.    within: the words of a command that it is run by.
    """

    def __init__(self, folder: Path, log: Path, within: Sequence[str] = ()) -> None:
        self.folder, self._log, self._within = folder, log, within
        self.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once the networks are loaded. Raises RuntimeError if it ends before, TimeoutError if late.

        Whatever is raised, no process is left.
        """
        command = [sys.executable, "-m", "p2ch_luna", "serve", "--port", "0", "--folder", str(self.folder)]
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as output:
            environment = {name: value for name, value in os.environ.items() if name != "LUNA_TOKEN"}
            self._process = subprocess.Popen(
                [*self._within, *command], stdout=output, stderr=output, env=environment
            )
        try:
            self._connect(begin)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _connect(self, begin: int) -> None:
        address = wait(lambda: self._address(begin), START_SECONDS, "the server's address")
        self.client = httpx.Client(base_url=address, timeout=60.0)
        wait(lambda: self.health()["worker"] in ("ready", "busy"), START_SECONDS, "a worker that is ready")

    def _address(self, begin: int) -> str | None:
        told = self._log.read_bytes()[begin:].decode("utf-8", "replace")
        if self._process.poll() is not None:
            raise RuntimeError(f"luna serve ended with code {self._process.returncode}: {told[-2000:]}")
        found = re.search(r"listening on (http://[0-9.]+:\d+)", told)
        return found[1] if found else None

    @property
    def pid(self) -> int:
        """Of the server itself."""
        return self._process.pid

    @property
    def address(self) -> str:
        """http://HOST:PORT."""
        return str(self.client.base_url)

    def worker_pid(self) -> int | None:
        """Of the process that holds the networks; None while there is none."""
        for children in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in children.read_text("ascii").split():
                if b"spawn_main" in _read(Path(f"/proc/{child}/cmdline")):
                    return int(child)
        return None

    def health(self) -> Answer:
        """What it says of itself; raises httpx.HTTPError if it does not answer."""
        answer: Answer = self.client.get("/health").json()
        return answer

    def job(self, job_id: str) -> Answer:
        """One job as it is now."""
        answer: Answer = self.client.get(f"/api/jobs/{job_id}").raise_for_status().json()
        return answer

    def post(self, scan: Path) -> httpx.Response:
        """Upload a scan, once."""
        kind = {"Content-Type": "application/octet-stream"}
        return self.client.post("/api/scans?name=phantom", content=scan.read_bytes(), headers=kind)

    def running(self, scan: Path) -> str:
        """Upload a scan; the id of its job, which has begun."""
        job_id = str(self.post(scan).raise_for_status().json()["id"])
        wait(lambda: self.job(job_id)["state"] == "running", JOB_SECONDS, "a job that is running")
        return job_id

    def ended(self, job_id: str) -> Answer:
        """Wait for the end of a job."""
        wait(lambda: self.job(job_id)["state"] in ("done", "failed"), JOB_SECONDS, "the end of a job")
        return self.job(job_id)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """In good order; its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        self.client.close()
        self._process.send_signal(number)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the condition gives something true, and return that. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not there after {seconds:.0f} s")


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has asked for its exit code counts as ended."""
    return b"\nState:\tZ" in (status := _read(Path(f"/proc/{pid}/status"))) or not status


def resident_mb(pid: int) -> float | None:
    """Its resident memory; None if it is gone."""
    found = re.search(rb"VmRSS:\s*(\d+) kB", _read(Path(f"/proc/{pid}/status")))
    return int(found[1]) / 1024 if found else None


def write_phantom(folder: Path) -> Path:
    """A small chest with known nodules, 7 MB, that is diagnosed in some seconds."""
    words = ["phantom", "--output", str(folder), "--format", "nii.gz", "--spacing", "1.5", "1.5", "3"]
    subprocess.run([sys.executable, "-m", "p2ch_luna", *words], check=True, capture_output=True)
    return next(folder.glob("phantom-*.nii.gz"))


def _read(path: Path) -> bytes:
    """A file of /proc, which may be gone by now."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill(pid: int) -> None:
    """At once."""
    os.kill(pid, signal.SIGKILL)
