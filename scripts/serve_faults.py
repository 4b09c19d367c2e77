"""What may go wrong under a running service, each made to happen once, for serve_load.py."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from serve_process import JOB_SECONDS, Server, is_gone, kill, wait

SMALL_DISK_MB = 1200  # room for the 1 GiB that the service keeps free, and some jobs
GONE_SECONDS = 10.0  # within which what is left behind must be gone


class Fault(NamedTuple):
    """is_borne: whether all came of it that was promised; None: it could not be made to happen here."""

    what: str
    came_of_it: str
    is_borne: bool | None


def worker_killed(server: Server, scan: Path) -> Fault:
    """kill -9 of the process that computes: the job is tried once more."""
    job_id = server.running(scan)
    worker = server.worker_pid()
    if worker is not None:
        kill(worker)
    job = server.ended(job_id)
    is_borne = (job["state"], job["attempts"]) == ("done", 2)
    return Fault("kill -9 of the worker in a job", f"{job['state']} in attempt {job['attempts']}", is_borne)


def server_killed(server: Server, scan: Path) -> Fault:
    """kill -9 of the server: its worker ends too; started again, it takes the job up."""
    job_id = server.running(scan)
    worker = server.worker_pid()
    server.kill()
    begin = time.monotonic()
    if worker is not None:
        wait(lambda: is_gone(worker), GONE_SECONDS, "the end of the worker")
    seconds = time.monotonic() - begin
    server.start()
    job = server.ended(job_id)
    told = (
        f"its worker ended {seconds:.1f} s later; started again: {job['state']} in attempt {job['attempts']}"
    )
    is_borne = (job["state"], job["attempts"]) == ("done", 2)
    return Fault("kill -9 of the server in a job", told, is_borne)


def client_gone(server: Server, scan: Path) -> Fault:
    """A client that hangs up in the midst of its upload leaves neither a job nor a file."""
    before = server.client.get("/api/jobs").json()["jobs"]
    address = urlsplit(server.address)
    content = scan.read_bytes()
    head = (
        f"POST /api/scans?name=gone HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    uploads = server.folder / "uploads"
    with socket.create_connection((address.hostname, address.port or 80)) as line:
        line.sendall(head.encode("ascii") + content[: len(content) // 2])
        wait(lambda: any(uploads.iterdir()), GONE_SECONDS, "the half of an upload")
    wait(lambda: not any(uploads.iterdir()), GONE_SECONDS, "the end of the half of an upload")
    after = server.client.get("/api/jobs").json()["jobs"]
    is_borne = len(after) == len(before) and server.health()["status"] == "ok"
    return Fault("client gone in mid-upload", f"{len(after) - len(before)} jobs more, no file left", is_borne)


def disk_full(folder: Path, scan: Path) -> Fault:
    """No room is left while a job runs: uploads are refused, and with room again the job is done."""
    what = "disk full in a job"
    within = _on_small_disk(folder)
    if within is None:
        return Fault(what, "not tried: no small disk can be mounted here (unshare)", None)
    with Server(folder, folder.with_suffix(".log"), within) as server:
        disk = Path(f"/proc/{server.pid}/root") / folder.relative_to("/")
        job_id = server.running(scan)
        filler = _fill(disk)
        refused = server.post(scan).status_code
        wait(lambda: server.health()["status"] == "failing", JOB_SECONDS, "a word on the full disk")
        left = any((disk / "jobs" / job_id / "results").glob("*"))
        filler.unlink()
        job = server.ended(job_id)
    told = (
        f"upload refused with {refused}, /health fails, {'half results' if left else 'no half result'}; "
        f"with room again: {job['state']} in attempt {job['attempts']}"
    )
    is_borne = refused == 507 and not left and (job["state"], job["attempts"]) == ("done", 2)
    return Fault(what, told, is_borne)


def all_faults(server: Server, folder: Path, scan: Path) -> list[Fault]:
    """One after the other; one that raises is told, and not borne."""
    tries: dict[str, Callable[[], Fault]] = {
        "kill -9 of the worker in a job": lambda: worker_killed(server, scan),
        "kill -9 of the server in a job": lambda: server_killed(server, scan),
        "client gone in mid-upload": lambda: client_gone(server, scan),
        "disk full in a job": lambda: disk_full(folder / "small", scan),
    }
    return [_tried(what, make) for what, make in tries.items()]


def _tried(what: str, make: Callable[[], Fault]) -> Fault:
    try:
        return make()
    except Exception as error:
        return Fault(what, f"{type(error).__name__}: {error}", False)


def _on_small_disk(folder: Path) -> list[str] | None:
    """The command that runs another with a small disk at the folder; None where that is not allowed."""
    folder.mkdir()
    if shutil.which("unshare") is None:
        return None
    mount = f'mount -t tmpfs -o size={SMALL_DISK_MB}m,mode=0700 none "$0" && exec "$@"'
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(folder)]
    tried = subprocess.run([*within, "true"], capture_output=True, check=False)
    return within if tried.returncode == 0 else None


def _fill(disk: Path) -> Path:
    """Write a file until there is no room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError:
            return filler
    return filler
