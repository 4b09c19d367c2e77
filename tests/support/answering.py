"""What processes of tests answer: functions that a new interpreter can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start(log: Path | None = None) -> Callable[[str], str]:
    """Notes itself in the log; what it returns does as it is told."""
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
    return answer


def start_deaf() -> Callable[[str], str]:
    """As `start`, but nobody can ask the process to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return answer


def answer(task: str) -> str:
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif task == "exit":
        sys.exit(3)
    elif task == "sleep":
        time.sleep(600)
    elif task == "held":
        return str(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    return f"{task} done"
