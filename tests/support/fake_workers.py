"""What worker processes of tests do with a job: functions that a new interpreter can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import Claim, Diagnose, Hindered, Outcome, ResultFile
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.worker import WorkerSettings

PIDS, ATTEMPTS, NETWORKS = "pids", "attempts", "networks"
PAGE = "<!doctype html><title>report</title>"
FILES = {"report.json": ("{}", "application/json"), "report.html": (PAGE, "text/html")}


def begin(settings: WorkerSettings) -> Diagnose:
    """Notes its process in `PIDS` beside the service's folder."""
    note(settings, PIDS, str(os.getpid()))
    return partial(attempt, settings)


def begin_where_networks_are(settings: WorkerSettings) -> Diagnose:
    """As `begin`, once there is a file `NETWORKS` beside the service's folder."""
    if not (settings.folder.parent / NETWORKS).exists():
        raise LunaError("networks: not there; expected weights")
    return begin(settings)


def begin_and_die(_settings: WorkerSettings) -> Diagnose:
    os._exit(7)


def attempt(settings: WorkerSettings, claim: Claim) -> Outcome | Hindered:
    """Writes results, then does what the first word of the job's name says."""
    note(settings, ATTEMPTS, f"{claim.name} {claim.attempt}")
    outcome = write_results(Storage(settings.folder), claim)
    word = claim.name.split()[0]
    if word == "kill" or (word == "kill-once" and claim.attempt == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "leave":  # as if the system shut down
        if len(read(settings.folder, ATTEMPTS)) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
    elif word == "exit":
        sys.exit(3)
    elif word == "sleep" or (word == "sleep-once" and len(read(settings.folder, ATTEMPTS)) == 1):
        time.sleep(600)
    elif word == "brief":
        time.sleep(0.5)
    elif word == "fail":
        return Outcome(error="no CT")
    elif word == "full" or (word == "full-once" and claim.attempt == 1):
        return Hindered(f"{claim.name}: no space left")
    return outcome


def write_results(storage: Storage, claim: Claim) -> Outcome:
    """Some for a job that has none, not even half ones of an earlier attempt."""
    folder = storage.results_folder(claim.job_id)
    folder.mkdir()
    for name, (text, _) in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    results = [
        ResultFile(name=name, bytes=len(text), media_type=kind) for name, (text, kind) in FILES.items()
    ]
    return Outcome(is_searched=True, n_findings=1, results=tuple(results))


def note(settings: WorkerSettings, name: str, line: str) -> None:
    with (settings.folder.parent / name).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def read(folder: Path, name: str) -> list[str]:
    """The lines of a note beside the service's folder."""
    path = folder.parent / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
