"""What worker processes of tests do with a job: functions that a new interpreter can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from p2ch_luna.errors import LunaError
from p2ch_luna.serve.jobs import Claim, Outcome
from p2ch_luna.serve.storage import Storage
from p2ch_luna.serve.worker import WorkerSettings

PIDS, ATTEMPTS, NETWORKS = "pids", "attempts", "networks"


def begin(settings: WorkerSettings) -> Callable[[Claim], Outcome]:
    """Notes its process in `PIDS` beside the service's folder."""
    note(settings, PIDS, str(os.getpid()))
    return partial(attempt, settings)


def begin_where_networks_are(settings: WorkerSettings) -> Callable[[Claim], Outcome]:
    """As `begin`, once there is a file `NETWORKS` beside the service's folder."""
    if not (settings.folder.parent / NETWORKS).exists():
        raise LunaError("networks: not there; expected weights")
    return begin(settings)


def begin_and_die(_settings: WorkerSettings) -> Callable[[Claim], Outcome]:
    os._exit(7)


def attempt(settings: WorkerSettings, claim: Claim) -> Outcome:
    """Writes some results, then does what the first word of the job's name says."""
    note(settings, ATTEMPTS, f"{claim.name} {claim.attempt}")
    results = Storage(settings.folder).results_folder(claim.job_id)
    results.mkdir()  # it is not there: nothing of an earlier attempt is
    (results / "half").touch()
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
    return Outcome(n_findings=1)


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
